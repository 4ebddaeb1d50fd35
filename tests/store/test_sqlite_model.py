"""The SQLite engine against a plain model of the port, under random histories with reopening in between."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from unibus.store.port import Append, Entry, PositionTaken
from unibus.store.sqlite import SqliteStore

NAMES = st.sampled_from(["", "a", "a\0", "a%", "a_", "ab", "b", "é"]) | st.text(max_size=3).filter(
    lambda text: text.isprintable() or "\0" in text
)
VALUES = st.binary(max_size=8)


class AgainstModel(RuleBasedStateMachine):
    """Logs, marks and claims as dictionaries; every rule does the same to both and compares the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.store = self.open()
        self.log_entries: dict[str, list[Append]] = {}
        self.mark_values: dict[str, bytes] = {}
        self.claimed: dict[str, int] = {}
        self.forgotten_before = -1

    def open(self) -> SqliteStore:
        return self.runner.run(SqliteStore.open(Path(self.directory.name) / "store.db"))

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()
        self.directory.cleanup()

    @rule(
        log=NAMES,
        ahead=st.sampled_from([1, 1, 1, 0, 2, -5]),
        value=VALUES,
        attachments=st.dictionaries(NAMES, VALUES, max_size=2),
        marks=st.dictionaries(NAMES, st.none() | VALUES, max_size=2),
    )
    def append(
        self, log: str, ahead: int, value: bytes, attachments: dict[str, bytes], marks: dict[str, bytes | None]
    ) -> None:
        length = len(self.log_entries.get(log, []))
        change = Append(log, length + ahead, value, attachments, marks)
        if ahead != 1:
            with pytest.raises(PositionTaken) as refused:
                self.runner.run(self.store.append(change))
            assert refused.value.length == length
            return
        self.runner.run(self.store.append(change))
        self.log_entries.setdefault(log, []).append(change)
        for name, mark in marks.items():
            self.mark_values.pop(name, None)
            if mark is not None:
                self.mark_values[name] = mark

    @rule(name=NAMES, expires_at=st.integers(0, 5))
    def claim(self, name: str, expires_at: int) -> None:
        free = name not in self.claimed and expires_at >= self.forgotten_before
        assert self.runner.run(self.store.claim(name, expires_at)) is free
        if free:
            self.claimed[name] = expires_at

    @rule(now=st.integers(0, 6))
    def forget(self, now: int) -> None:
        self.forgotten_before = max(now, self.forgotten_before)
        expired = [name for name, expires_at in self.claimed.items() if expires_at < now]
        assert self.runner.run(self.store.forget_claims(now)) == len(expired)
        for name in expired:
            del self.claimed[name]

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.store.close())
        self.store = self.open()

    @rule(log=NAMES, name=NAMES, after=st.integers(-1, 4), limit=st.integers(0, 4))
    def read(self, log: str, name: str, after: int, limit: int) -> None:
        changes = self.log_entries.get(log, [])
        entries = [Entry(number, change.value) for number, change in enumerate(changes, 1)]
        attached = [Entry(n, c.attachments[name]) for n, c in enumerate(changes, 1) if name in c.attachments]
        assert self.runner.run(self.store.last(log)) == (entries[-1] if entries else None)
        expected = [entry for entry in entries if entry.position > after][:limit]
        assert self.runner.run(self.store.entries(log, after, limit)) == expected
        expected = [entry for entry in attached if entry.position > after][:limit]
        assert self.runner.run(self.store.attachments(log, name, after, limit)) == expected

    @rule(prefix=NAMES, after=NAMES, limit=st.integers(0, 4))
    def list_names(self, prefix: str, after: str, limit: int) -> None:
        # Python orders text by code points, which is the byte order of UTF-8.
        logs = sorted(name for name in self.log_entries if name.startswith(prefix) and name > after)
        marks = sorted(item for item in self.mark_values.items() if item[0].startswith(prefix) and item[0] > after)
        assert self.runner.run(self.store.logs(prefix, after, limit)) == logs[:limit]
        assert self.runner.run(self.store.marks(prefix, after, limit)) == marks[:limit]

    @invariant()
    def healthy(self) -> None:
        assert self.runner.run(self.store.posture())["reasons"] == []


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
