"""For `warn` mode: sees each publish into a room and logs the ones that `enforce` would have refused.

Runs only in that mode, because it brings every message through the daemon. Must never look into a message.
"""

from nats.aio.msg import Msg
from structlog.typing import FilteringBoundLogger

from unibus.bus.links import Links
from unibus.errors import UnibusError
from unibus.model.names import check_room_id
from unibus.model.subjects import STORED
from unibus.services.ports import BusPolicy


async def tap(links: Links, policy: BusPolicy, log: FilteringBoundLogger) -> None:
    """Begin to watch; ends with the links."""

    async def seen(message: Msg) -> None:
        _, room, _, sender = message.subject.split(".")
        try:
            allowed = room in (await policy.admit(sender, [check_room_id(room)])).write
        except UnibusError:
            allowed = False
        if not allowed:
            log.warning("enforce would refuse this publish", user=sender, room=room)

    await links.core.subscribe(STORED, cb=seen)
    await links.core.flush()
