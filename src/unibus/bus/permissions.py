"""What one connection may touch on the bus, as a pure function of its grants.

Must never return an empty list of allowed subjects: nats-server takes that for "everything".
"""

from dataclasses import dataclass

from unibus.model import subjects
from unibus.services.ports import Grants


@dataclass(frozen=True, slots=True)
class Permissions:
    """The subjects that a connection may publish to and subscribe to; all others are refused by nats-server."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]

    def claims(self) -> dict[str, object]:
        """The `pub` and `sub` members of a NATS user JWT."""
        return {"pub": _rule(self.publish), "sub": _rule(self.subscribe)}


EVERYTHING = Permissions(publish=(">",), subscribe=(">",))
"""For the modes that let everybody in: everything in the members' account, which holds no JetStream."""


def permissions(grants: Grants) -> Permissions:
    """A member's permissions: its own sender subjects, requests, replies, deliveries and announcements.

    Signals to all may be heard by who reads a room. Those to one user only by who could answer, and by nobody else.
    """
    user = grants.user
    return Permissions(
        publish=(
            *(subjects.room_messages(room, user) for room in grants.write),
            *(subjects.room_signals(room, user, "*") for room in grants.write),
            subjects.control(user, subjects.DELIVER),
            subjects.FLOW_CONTROL,
        ),
        subscribe=(
            f"{subjects.inbox_prefix(user)}.>",
            subjects.delivery(user, "*"),
            subjects.events(user),
            *(subjects.room_signals(room) for room in grants.read),
            *(subjects.room_signals(room, "*", user) for room in grants.write),
        ),
    )


def _rule(allowed: tuple[str, ...]) -> dict[str, list[str]]:
    return {"allow": list(allowed)} if allowed else {"deny": [">"]}
