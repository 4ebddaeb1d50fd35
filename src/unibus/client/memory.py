"""What a client remembers between runs: its bus, the newest verified head of every log, which frames it was shown.

This is what a rolled-back or forked log, and a frame shown again, is measured against. Kept in one small file beside
the identity, written atomically and under a lock, so that processes of one identity lose nothing of each other's;
without a path it lasts as long as the object. Holds no secret.
"""

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from unibus.client.seen import Seen, load_seen
from unibus.crypto.encoding import load_json, unb64u
from unibus.crypto.heads import Head
from unibus.errors import InvalidInput, KeyCustody, WrongBus, reason_of

LOCK_SECONDS = 5.0


@dataclass(slots=True)
class _State:
    bus: str | None = None
    heads: dict[str, Head] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)


class Memory:
    """The remembered bus id, heads and frames. `remember` keeps the newest head; `save` writes what changed.

    `patience` is for how many seconds it waits for another process to finish its own writing.
    """

    def __init__(self, path: Path | None = None, patience: float = LOCK_SECONDS) -> None:
        self._path = path
        self._patience = patience
        self._changed = False
        state = _State() if path is None else _read(path)
        self.bus = state.bus
        self.heads = state.heads
        self._seen = state.seen

    def pin_bus(self, bus: str) -> bool:
        """Remember `bus`; whether it is new here. Raises WrongBus when another one is remembered."""
        if self.bus == bus:
            return False
        if self.bus is not None:
            raise WrongBus(
                f"this daemon serves the bus {bus[:12]}…, but this identity knows {self.bus[:12]}…: "
                "check the address; for a second bus use another identity or state file"
            )
        self.bus = bus
        self._changed = True
        return True

    def remember(self, log: str, head: Head) -> None:
        """Note that `head` of `log` was verified. An empty log gives nothing to measure a later one against."""
        known = self.heads.get(log)
        if head.sequence > (known.sequence if known else 0):
            self.heads[log] = head
            self._changed = True

    def seen(self, room: str) -> Seen:
        """What was shown of `room`: the same object for all who read there. Say `shown` after changing it."""
        return self._seen.setdefault(room, Seen())

    def shown(self) -> None:
        """Note that more was shown in some room."""
        self._changed = True

    def save(self) -> None:
        """Write what changed. What another process of the same identity has learned meanwhile is kept.

        Raises KeyCustody when the file cannot be read or written, WrongBus when it has become another bus's.
        """
        if self._path is None or not self._changed or self.bus is None:
            return
        with _locked(self._path, self._patience):
            found = _read(self._path)
            if found.bus is not None and found.bus != self.bus:
                raise WrongBus(f"{self._path} now belongs to another bus: use a state file for each")
            for log, head in found.heads.items():
                self.remember(log, head)
            for room, seen in found.seen.items():
                self.seen(room).merge(seen)
            _write(self._path, _State(self.bus, self.heads, self._seen))
        self._changed = False


@contextlib.contextmanager
def _locked(path: Path, patience: float) -> Iterator[None]:
    """Hold the lock on the directory of `path`: the file itself is replaced, and a lock on it would lock nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise KeyCustody(f"another process holds {path.parent}: end it, or name another place") from error
                time.sleep(0.005)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> _State:
    try:
        found = load_json(path.read_bytes())
    except FileNotFoundError:
        return _State()
    except (OSError, InvalidInput) as error:
        raise KeyCustody(f"cannot read {path}: {error}; move it away to begin anew") from error
    match found:
        case {"version": 1, "bus": str(bus), "heads": dict(heads), **more}:
            try:
                return _State(
                    bus,
                    {log: Head(int(seq), unb64u(digest, size=32)) for log, (seq, digest) in heads.items()},
                    {room: load_seen(shown) for room, shown in _members(more.get("seen", {})).items()},
                )
            except (InvalidInput, ValueError, TypeError, AttributeError) as error:
                raise KeyCustody(f"{path} is damaged; move it away to begin anew") from error
        case _:
            raise KeyCustody(f"{path} is not a state file that this unibus knows; move it away to begin anew")


def _members(found: object) -> dict[str, object]:
    if not isinstance(found, dict):
        raise InvalidInput("not what a client remembers of its rooms")
    return found


def _write(path: Path, state: _State) -> None:
    content = {
        "version": 1,
        "bus": state.bus,
        "heads": {log: [head.sequence, head.hash] for log, head in state.heads.items()},
        "seen": {room: seen.dump() for room, seen in state.seen.items()},
    }
    made: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        made = Path(name)
        with os.fdopen(handle, "w") as file:
            json.dump(content, file, separators=(",", ":"), sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
    except OSError as error:
        if made is not None:
            made.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> KeyCustody:
    return KeyCustody(f"cannot write {path}: {reason_of(error)}; make room for it, or name another place")
