"""What a nats-server of somebody else's needs in its configuration to serve a bus. Pure: public keys in, text out.

Must never hold a secret: it is printed, mailed and committed.
"""

import json

from unibus.bus import config
from unibus.bus.binary import MIN_VERSION
from unibus.bus.keys import BusKeys

_HEAD = f"""\
# What a nats-server needs to serve this unibus bus. It holds public keys only.
#
# Save it beside the server's own configuration, which is to have, once and outside of this file:
#
#   include "unibus.conf"
#   jetstream {{ store_dir: "/var/lib/nats", sync_interval: always, max_file_store: 100GB,
#                max_buffered_msgs: {config.MAX_WAITING}, max_buffered_size: {config.MAX_WAITING_BYTES} }}
#
# and where the daemon or members come from other hosts:
#
#   tls {{ cert_file: "…", key_file: "…", handshake_first: "500ms" }}
#
# then restart the server: {".".join(map(str, MIN_VERSION))} or newer, one server and no cluster. With sync_interval:
# always, what it acknowledged survives a power cut; anything else shows in the daemon's /healthz.
#
# The server belongs to the bus: "accounts", "authorization" and "system_account" stand in no other place of its
# configuration. Whoever else is to connect needs a user in an account of their own in the block below, and that user's
# name or nkey in "auth_users"; everybody who is not in there is decided on by the daemon. Give nobody a user in
# SYS, AUTH, CORE or BUS: whoever has one stands above the bus's rules.
"""


def render(keys: BusKeys, max_payload: int) -> str:
    """A file for nats-server to include, which lets in the daemon that holds `keys` and whom that approves.

    `max_payload` is the largest message in bytes.
    """
    members = {
        **config.access(keys),
        "max_payload": max_payload,
        "max_control_line": config.MAX_CONTROL_LINE,
        "max_pending": config.MAX_PENDING,
        "write_deadline": config.WRITE_DEADLINE,
    }
    return _HEAD + "".join(f"\n{name}: {json.dumps(value, indent=2)}\n" for name, value in members.items())
