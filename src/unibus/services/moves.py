"""What a store remembers of a bus that was moved into it: that it begins, and that all of it is there.

Between the two no node serves, because what is there is not yet the bus. Nonces are not moved. Instead no request is
good that the node before could have taken: none that was signed up to a whole window after it stood still.
"""

from typing import Literal

from pydantic import ValidationError

from unibus.crypto.encoding import dump_json
from unibus.crypto.httpsig import WINDOW
from unibus.errors import StorageUnavailable
from unibus.model.bodies import Digest, Strict
from unibus.store.port import Append, Store

LOG = "moves"


class Move(Strict):
    """One entry. `source` is the digest of what is moved (`model.moving.contents`), `at` when it stood still already,
    in Unix seconds. A move is dropped when the bus turns out to be another's."""

    stage: Literal["begun", "dropped", "finished"]
    bus: Digest
    source: Digest
    at: int

    @property
    def floor(self) -> int:
        """The Unix time up to which no signed request is good."""
        return self.at + WINDOW if self.stage == "finished" else 0


async def last_move(store: Store) -> tuple[int, Move | None]:
    """How many entries there are, and the last one. Raises StorageUnavailable."""
    last = await store.last(LOG)
    if last is None:
        return 0, None
    try:
        return last.position, Move.model_validate_json(last.value)
    except ValidationError as error:
        raise StorageUnavailable("the note of the bus's move is damaged: restore from a backup") from error


async def note_move(store: Store, after: int, move: Move) -> None:
    """Append an entry to the `after` that there are. Raises PositionTaken when there are more, StorageUnavailable."""
    await store.append(Append(LOG, after + 1, dump_json(move.model_dump())))
