"""Deliveries as values: what a request for one must look like, which are open, which a revocation reaches. Pure."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unibus.crypto.encoding import load_json
from unibus.errors import InvalidInput, LimitReached
from unibus.model import subjects
from unibus.model.names import check_room_id, check_token

MOST_PER_USER = 1000
HEARTBEAT = 2
"""Seconds between signs of life on an idle delivery."""
ABANDONED_AFTER = 60
"""Seconds without its reader after which JetStream ends a delivery."""
SERVER = "unibus-server"
"""Where a consumer says which server's daemon made it, by that server's id."""
_LONGEST_REQUEST = 512
_SECOND = 1_000_000_000


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    room: str
    token: str
    after: int | None = Field(default=None, ge=0, lt=2**53)


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """One reader's view of one room; `token` is its name, made up by the reader and known to nobody else."""

    user: str
    room: str
    token: str


def read_request(user: str, data: bytes) -> tuple[Delivery, int | None]:
    """The delivery that `user` asks for, and the sequence it is to begin after, None for now. Raises InvalidInput."""
    if len(data) > _LONGEST_REQUEST:
        raise InvalidInput("a request for a delivery is shorter than this")
    try:
        request = _Request.model_validate(load_json(data))
    except ValidationError as error:
        raise InvalidInput('ask for a delivery with {"room": …, "token": …, "after": …}') from error
    return Delivery(user, check_room_id(request.room), check_token(request.token)), request.after


def consumer(delivery: Delivery, after: int, server: str | None = None) -> dict[str, object]:
    """The JetStream request for the consumer behind `delivery`: everything in its room after the sequence `after`.

    "create" never changes a consumer that exists, so that nobody can take over the token of another. In a cluster
    `server` is the id of the server whose daemon makes it.
    """
    return {
        "stream_name": subjects.STREAM,
        "action": "create",
        "config": {
            "name": delivery.token,
            "deliver_subject": subjects.delivery(delivery.user, delivery.token),
            "filter_subject": subjects.room_messages(delivery.room),
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "ack_policy": "none",
            "replay_policy": "instant",
            "flow_control": True,
            "idle_heartbeat": HEARTBEAT * _SECOND,
            "inactive_threshold": ABANDONED_AFTER * _SECOND,
            "mem_storage": True,
            "num_replicas": 1,
            **({} if server is None else {"metadata": {SERVER: server}}),
        },
    }


class Book:
    """The deliveries that are open or being opened."""

    def __init__(self) -> None:
        self._by_token: dict[str, Delivery] = {}
        self._by_user: dict[str, dict[str, Delivery]] = {}

    def __len__(self) -> int:
        return len(self._by_token)

    def __contains__(self, delivery: Delivery) -> bool:
        return self._by_token.get(delivery.token) is delivery

    def enter(self, delivery: Delivery) -> None:
        """Raises InvalidInput if the token is in use, LimitReached if the user has too many."""
        own = self._by_user.setdefault(delivery.user, {})
        if delivery.token in self._by_token:
            raise InvalidInput("this token is in use: choose a random one for each delivery")
        if len(own) >= MOST_PER_USER:
            raise LimitReached(f"one user may have {MOST_PER_USER} deliveries open: close some")
        own[delivery.token] = self._by_token[delivery.token] = delivery

    def strike(self, token: str) -> Delivery | None:
        """Forget the delivery called `token`, and return it, if there is one."""
        delivery = self._by_token.pop(token, None)
        if delivery is not None:
            own = self._by_user[delivery.user]
            del own[token]
            if not own:
                del self._by_user[delivery.user]
        return delivery

    def of(self, user: str, room: str | None = None) -> list[Delivery]:
        """The deliveries of `user`, or only those of `room`."""
        return [delivery for delivery in self._by_user.get(user, {}).values() if room in (None, delivery.room)]
