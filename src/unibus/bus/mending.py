"""Gets a stream going again that a member's header has stopped on all replicas (docs/decisions/0019).

nats-server must not run meanwhile. Must never touch a file in which nothing is wrong, or one that is not understood.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from unibus.bus.raft_log import block_key, heal
from unibus.errors import BusUnavailable, reason_of
from unibus.store.files import keep

_LOGS = "jetstream/*/_js_/S-*/msgs/*.blk"
_INDEX = "index.db"
"""What nats-server remembers of the blocks beside it, and makes anew from them where it is not there."""


@dataclass(frozen=True, slots=True)
class Mended:
    """The `users` whose messages had stopped a stream, and the files that were not understood."""

    users: frozenset[str]
    strange: tuple[str, ...]


def mend(store: Path) -> Mended:
    """Heal the logs of all streams in nats-server's directory `store`. Raises BusUnavailable if that fails."""
    users: set[str] = set()
    strange: list[str] = []
    for path in sorted(store.glob(_LOGS)):
        group = path.parent.parent.name
        try:
            before = path.read_bytes()
            healed = heal(before, block_key(group, int(path.stem)))
            if healed.block != before:
                _replace(path, healed.block)
                users |= {subject.rpartition(".")[2] for subject in healed.subjects}
        except ValueError as error:
            strange.append(f"{group}/{path.name}: {error}")
        except OSError as error:
            raise BusUnavailable(f"{path} cannot be mended: {reason_of(error)}") from error
    return Mended(frozenset(users), tuple(strange))


def _replace(path: Path, block: bytes) -> None:
    partial = path.with_suffix(".new")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(block)
    (path.parent / _INDEX).unlink(missing_ok=True)
    keep(partial, path)
