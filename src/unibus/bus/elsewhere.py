"""Finds what other daemons of the cluster deliver to somebody who has lost it, to be ended when those are silent.

Must never name what nobody has lost: each delivery says itself whose it is, and of which room.
"""

from collections.abc import Collection, Iterable

from unibus.bus.consumers import Consumer, consumers
from unibus.bus.links import Links
from unibus.model import subjects
from unibus.services.ports import Taken


def lost(found: Iterable[Consumer], taken: Collection[Taken]) -> list[str]:
    """The names of those deliveries in `found` that are of somebody and something in `taken`."""
    gone = {
        (subjects.delivery(user, ""), None if room is None else subjects.room_messages(room)) for user, room in taken
    }

    def is_gone(one: Consumer) -> bool:
        whose = one.config.deliver_subject.removesuffix(one.name)
        return (whose, None) in gone or (whose, one.config.filter_subject) in gone

    return [one.name for one in found if is_gone(one)]


async def deliveries_of(links: Links, taken: Collection[Taken]) -> list[str]:
    """The deliveries there are of what was `taken`, whoever made them. Raises BusUnavailable."""
    if not taken:
        return []
    found, _ = await consumers(links)
    return lost(found, taken)
