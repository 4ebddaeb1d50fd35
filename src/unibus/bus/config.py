"""nats-server's generated configuration. Pure: options and public keys in, text out.

The file is JSON, which nats-server reads as its own format, so that no value can break out of its place. Must
never hold a secret: the daemon's logins appear as public nkeys only.
"""

import json

from unibus.bus.keys import BusKeys
from unibus.bus.options import BusOptions
from unibus.bus.tls import HANDSHAKE_FIRST
from unibus.model import subjects

MEMBERS = "BUS"
"""The account that members are let into."""
LOGIN = "member"
"""What nats-server calls everybody who was let into BUS.

A user of this name stands in the configuration, because a reload disconnects whoever has a name that does not. Its
password is the beginning of a bcrypt hash, which nothing compares equal to: only the callout lets anybody into BUS.
"""
_NO_PASSWORD = "$2a$04$"  # noqa: S105 - it is none
AUTH_TIMEOUT = 2
"""Seconds a client has to be let in. With 3 or more, nats-py takes an unanswered connection for a good one."""
MAX_CONTROL_LINE = 65_536
"""Bytes of one protocol line: a connection that names the rooms it opens does so in its CONNECT line."""


def render(options: BusOptions, keys: BusKeys, port: int, ws_port: int) -> str:
    """The configuration for one life of the server; a port of 0 lets it take a free one.

    Members live in BUS, JetStream in CORE: a reply subject is never checked against permissions, so a member beside
    JetStream could make the server speak for it. BUS reaches only the subjects that CORE exports.
    """
    shared = [
        ("service", subjects.STORED),
        ("service", subjects.control("*", subjects.DELIVER)),
        ("service", subjects.FLOW_CONTROL),
        ("stream", subjects.delivery(">", "")[: -len(".")]),
        ("stream", subjects.events(">")),
    ]
    logins = [keys.auth.public, keys.core.public, keys.system.public]
    listeners: dict[str, object] = {}
    if options.tls is not None:
        listeners["tls"] = {**options.tls.settings(), "handshake_first": HANDSHAKE_FIRST}
    if options.ws_host is not None:
        guard = {"no_tls": True} if options.tls is None else {"tls": options.tls.settings()}
        listeners["websocket"] = {"host": options.ws_host, "port": ws_port or -1, **guard}
    return json.dumps(
        {
            **listeners,
            "server_name": options.node,
            "host": options.host,
            "port": port or -1,
            "ports_file_dir": str(options.run_dir),
            "logtime": False,
            "max_payload": options.max_payload,
            "max_control_line": MAX_CONTROL_LINE,
            "jetstream": {"store_dir": str(options.store_dir), "sync_interval": "always"},
            "system_account": "SYS",
            "accounts": {
                "SYS": {"users": [{"nkey": keys.system.public}]},
                "AUTH": {"users": [{"nkey": keys.auth.public}]},
                "CORE": {
                    "jetstream": "enabled",
                    "users": [{"nkey": keys.core.public}],
                    "exports": [{kind: subject, "accounts": [MEMBERS]} for kind, subject in shared],
                },
                MEMBERS: {
                    "users": [{"user": LOGIN, "password": _NO_PASSWORD}],
                    "imports": [{kind: {"account": "CORE", "subject": subject}} for kind, subject in shared],
                },
            },
            "authorization": {
                "timeout": AUTH_TIMEOUT,
                "auth_callout": {
                    "issuer": keys.issuer.public,
                    "account": "AUTH",
                    "auth_users": logins,
                    "xkey": keys.curve_public,
                },
            },
        },
        indent=1,
        ensure_ascii=False,
    )
