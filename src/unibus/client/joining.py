"""Coming onto a bus by an invite: the newcomer signs their own joining, and then verifies that it is in the log.

The bus's id comes from the token and never from the server, so that the server cannot point a newcomer at another bus.
"""

import secrets
import ssl
import time
from pathlib import Path

from unibus.client.api import DEADLINE, ControlApi
from unibus.client.bus import connect
from unibus.client.changes import Signer
from unibus.client.memory import Memory
from unibus.client.races import until_first
from unibus.client.trust import chosen_context
from unibus.crypto.encoding import unb64u
from unibus.crypto.heads import Head
from unibus.crypto.identity import Identity
from unibus.crypto.invites import InviteToken
from unibus.errors import InvalidInput, InviteUsed, NotAUser, Untrusted


async def join_bus(
    token: InviteToken,
    identity: Identity,
    handle: str | None,
    *,
    url: str | None = None,
    state: Path | None = None,
    deadline: float = DEADLINE,
    tls: ssl.SSLContext | None = None,
    ca: Path | None = None,
) -> str:
    """Join by `token` as `handle`, and return the handle, which the invite may have fixed. `url` overrides the token's.

    `tls` and `ca` are as for `connect`.

    Raises InviteUsed, InviteExpired, InviteWithdrawn, InviteUnknown; InvalidInput when neither names a handle;
    RuleBroken for a handle that is taken; WrongBus when the daemon serves another bus; Untrusted errors, also when it
    says that the invite fixes a handle which it does not.
    """
    context = chosen_context(tls, ca)
    memory = Memory(state)
    memory.pin_bus(token.bus)
    address = url or token.url
    api = ControlApi(address, token.key, time.time, deadline, context)
    api.bus = token.bus
    sent: list[str] = []  # as whom
    used: InviteUsed | None = None
    await api.open()
    try:
        await until_first(lambda: _join(api, token, identity, handle, sent))
    except InviteUsed as error:
        if not sent:
            raise
        used = error  # perhaps by this very joining, in a try of which no answer came
    finally:
        await api.close()
    memory.save()
    # The server's word is worth nothing: the verified directory has to say that it was appended, and what was fixed.
    try:
        async with connect(address, identity, bus=token.bus, state=state, deadline=deadline, tls=context) as bus:
            joined, invite = bus.directory.handle_of(identity.user), bus.directory.invites.get(token.key.public)
    except NotAUser:
        raise used or NotAUser("the server says that you have joined, and does not show it") from None
    if invite is None or not set(sent) <= {handle, invite.handle}:
        raise Untrusted(f"you have joined as {joined}: the server said that your invite wants it, which it does not")
    return joined


async def _join(api: ControlApi, token: InviteToken, identity: Identity, handle: str | None, sent: list[str]) -> None:
    view = await api.invitation()
    named = view.handle or handle
    if named is None:
        raise InvalidInput("this invite leaves the handle to you: choose one with --handle")
    head = Head(view.head.sequence, unb64u(view.head.hash, size=32))
    record = Signer(identity, int(time.time()), secrets.token_bytes).join(token, head, named)
    sent.append(named)
    await api.join(record)
