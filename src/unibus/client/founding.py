"""Making a bus: the first admin signs its first record, against the token that only the host's operator can read."""

import secrets
import ssl
import time
from pathlib import Path

from unibus.client.api import DEADLINE, ControlApi
from unibus.client.changes import Signer, genesis_bus
from unibus.client.memory import Memory
from unibus.client.trust import chosen_context
from unibus.crypto.identity import Identity
from unibus.errors import BootstrapRefused


async def found_bus(
    url: str,
    identity: Identity,
    token: str,
    handle: str,
    *,
    state: Path | None = None,
    deadline: float = DEADLINE,
    tls: ssl.SSLContext | None = None,
    ca: Path | None = None,
) -> str:
    """Make the bus that the daemon at `url` will serve, with `identity` as its first admin; returns the bus's id.

    Of several addresses the first is the one whose daemon wrote `token`. `tls` and `ca` are as for `connect`.

    Raises BootstrapRefused for a wrong or spent token, InvalidInput for the handle, WrongBus if `state` knows another.
    """
    record = Signer(identity, int(time.time()), secrets.token_bytes).found(handle).record
    bus = genesis_bus(record)
    memory = Memory(state)
    memory.pin_bus(bus)
    api = ControlApi(url, identity.signing, time.time, deadline, chosen_context(tls, ca))
    await api.open()
    try:
        await api.found(token, record)
    except BootstrapRefused:
        # An answer may have been lost: the token is spent, and what it was spent on is ours.
        if (await api.bus_view()).bus != bus:
            raise
    finally:
        await api.close()
    memory.save()
    return bus
