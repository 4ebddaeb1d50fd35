"""What a client remembers between runs: which bus it knows, and the newest head of every log that it has verified.

This is what a rolled-back or forked log is measured against. Kept in one small file beside the identity, written
atomically; without a path it lasts as long as the object. Holds no secret.
"""

import json
import os
import tempfile
from pathlib import Path

from unibus.crypto.encoding import load_json, unb64u
from unibus.crypto.heads import Head
from unibus.errors import InvalidInput, KeyCustody, WrongBus


class Memory:
    """The remembered bus id and heads. `remember` keeps the newest; `save` writes what changed."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._changed = False
        self.bus: str | None = None
        self.heads: dict[str, Head] = {}
        if path is not None:
            self.bus, self.heads = _read(path)

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

    def save(self) -> None:
        """Write what changed. What another process of the same identity has learned meanwhile is kept.

        Raises KeyCustody when the file cannot be read or written, WrongBus when it has become another bus's.
        """
        if self._path is None or not self._changed or self.bus is None:
            return
        bus, heads = _read(self._path)
        if bus is not None and bus != self.bus:
            raise WrongBus(f"{self._path} now belongs to another bus: use a state file for each")
        for log, head in heads.items():
            self.remember(log, head)
        _write(self._path, self.bus, self.heads)
        self._changed = False


def _read(path: Path) -> tuple[str | None, dict[str, Head]]:
    try:
        found = load_json(path.read_bytes())
    except FileNotFoundError:
        return None, {}
    except (OSError, InvalidInput) as error:
        raise KeyCustody(f"cannot read {path}: {error}; move it away to begin anew") from error
    match found:
        case {"version": 1, "bus": str(bus), "heads": dict(heads)}:
            try:
                return bus, {log: Head(int(seq), unb64u(digest, size=32)) for log, (seq, digest) in heads.items()}
            except (InvalidInput, ValueError, TypeError) as error:
                raise KeyCustody(f"{path} is damaged; move it away to begin anew") from error
        case _:
            raise KeyCustody(f"{path} is not a state file that this unibus knows; move it away to begin anew")


def _write(path: Path, bus: str, heads: dict[str, Head]) -> None:
    content = {"version": 1, "bus": bus, "heads": {log: [head.sequence, head.hash] for log, head in heads.items()}}
    made: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        made = Path(name)
        with os.fdopen(handle, "w") as file:
            json.dump(content, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
    except OSError as error:
        if made is not None:
            made.unlink(missing_ok=True)
        raise KeyCustody(f"cannot write {path}: {error.strerror}; make room for it, or name another place") from error
