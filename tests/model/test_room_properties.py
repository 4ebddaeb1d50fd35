"""Whatever anybody tries, in any order: the invariants of directory and room, against a plain model of who is where."""

import copy
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.builders import Change, RoomStory, Story, user
from unibus.crypto.heads import Head
from unibus.errors import UnibusError
from unibus.model.bodies import History
from unibus.model.directory import Directory, reduce_directory
from unibus.model.records import Record, read_record
from unibus.model.room import WRITERS, Room, reduce_room

NAMES = st.sampled_from(["ada", "bob", "cyd", "dan", "eve"])
ROLES = st.sampled_from(["owner", "member", "reader"])


def seen(state: Directory | Room) -> dict[str, Any]:
    """All that a state holds, to compare with."""
    return copy.deepcopy(vars(state))


class Attempts(RuleBasedStateMachine):
    """Everybody tries everything. The model: who was ever admitted, who was revoked, and the members' roles."""

    @initialize(history=st.sampled_from(["shared", "since-join"]))
    def begin(self, history: History) -> None:
        self.story = Story()
        self.room = RoomStory(self.story, history=history)
        self.admins = {"ada"}
        self.admitted = {"ada"}
        self.revoked: set[str] = set()
        self.roles = {"ada": "owner"}

    def _try(self, state: Directory | Room, take: Callable[[], Record]) -> Record | None:
        """The record if it was taken; a refused one must have changed nothing."""
        before = seen(state)
        try:
            return take()
        except UnibusError:
            assert seen(state) == before
            return None

    def _change(self, change: Change) -> Record | None:
        return self._try(self.room.state, lambda: self.room.take(change))

    def _known(self, back: int) -> Head | None:
        return self.story.directory.head_at(max(1, self.story.directory.head.sequence - back))

    def _on_bus(self, name: str) -> bool:
        return name in self.admitted - self.revoked

    @rule(name=NAMES, by=NAMES, role=st.sampled_from(["admin", "member"]), handle=NAMES)
    def admit(self, name: str, by: str, role: Any, handle: str) -> None:
        raw = self.story.admission(name, by=by, role=role, handle=handle)
        if self._try(self.story.directory, lambda: self.story.take(raw)):
            assert by in self.admins - self.revoked
            assert name not in self.admitted
            self.admitted.add(name)
            if role == "admin":
                self.admins.add(name)

    @rule(name=NAMES, by=NAMES)
    def revoke(self, name: str, by: str) -> None:
        if self._try(self.story.directory, lambda: self.story.take(self.story.revocation(name, by=by))):
            assert by in self.admins - self.revoked or by == name
            assert self._on_bus(name)
            self.revoked.add(name)

    @precondition(lambda self: len(self.room.records) < 30)
    @rule(name=NAMES, by=NAMES, role=ROLES, rekey=st.booleans(), back=st.integers(0, 2))
    def add(self, name: str, by: str, role: Any, rekey: bool, back: int) -> None:
        change = self.room.addition(name, by=by, role=role, rekey=rekey, knows=self._known(back))
        if self._change(change):
            assert self.roles.get(by) == "owner"
            assert name not in self.roles
            self.roles[name] = role

    @rule(name=NAMES, by=NAMES, back=st.integers(0, 2))
    def remove(self, name: str, by: str, back: int) -> None:
        if self._change(self.room.removal(name, by=by, knows=self._known(back))):
            assert self.roles.get(by) == "owner"
            del self.roles[name]
            assert "owner" in self.roles.values()
            assert user(name) not in self.room.state.holders()

    @rule(by=NAMES, back=st.integers(0, 2))
    def rotate(self, by: str, back: int) -> None:
        if self._change(self.room.rotation(by=by, knows=self._known(back))):
            assert self.roles.get(by) in WRITERS
            if back == 0:
                assert self._on_bus(by)
                members = {user(name) for name in self.roles if self._on_bus(name)}
                assert self.room.state.holders() == members

    @rule()
    def replay(self) -> None:
        assert self._change(Change(self.room.records[-1])) is None
        assert self._try(self.story.directory, lambda: self.story.take(self.story.records[-1])) is None

    @invariant()
    def an_admin_is_left_and_handles_are_unique(self) -> None:
        directory = self.story.directory
        active = [known for known in directory.users.values() if known.revoked is None]
        assert {known.user for known in active} == {user(name) for name in self.admitted - self.revoked}
        assert any(directory.is_admin(known.user) for known in active)
        assert len({known.handle for known in active}) == len(active)
        assert all(directory.by_handle(known.handle) == known for known in active)

    @invariant()
    def the_room_is_as_the_model_says(self) -> None:
        state, directory = self.room.state, self.story.directory
        assert state.members(directory) == {user(n): role for n, role in self.roles.items() if self._on_bus(n)}
        assert list(state.epochs) == [epoch.number for epoch in state.epochs.values()]
        assert list(state.epochs) == list(range(1, len(state.epochs) + 1))
        held_by_outsiders = state.holders() - {user(n) for n in self.roles if self._on_bus(n)}
        assert state.rotation_due(directory) == bool(held_by_outsiders)
        if not state.rotation_due(directory):
            assert state.holders() == set(state.members(directory))

    @invariant()
    def nobody_who_was_out_when_an_epoch_began_was_given_its_key(self) -> None:
        state = self.room.state
        for record in map(read_record, self.room.records):
            epoch = getattr(record.body, "epoch", None)
            if epoch is None:
                continue
            began = state.epochs[epoch.number]
            assert record.directory is not None
            for holder in state.holders(epoch.number):
                assert any(state.role_at(holder, n) for n in range(began.began, state.head.sequence + 1))
                assert not self.story.directory.revoked_at(holder, record.directory.sequence)

    @invariant()
    def every_epoch_is_held_by_those_to_whom_its_key_was_sealed(self) -> None:
        state, directory = Room(self.story.bus, self.room.id), self.story.directory
        sealed: dict[int, set[str]] = {}
        for record in map(read_record, self.room.records):
            recipients = state.recipients(record, directory)
            state.apply(record, directory)
            sealed.setdefault(state.epoch.number, set()).update(recipients)
        assert {number: self.room.state.holders(number) for number in self.room.state.epochs} == sealed

    def teardown(self) -> None:
        directory = reduce_directory(map(read_record, self.story.records))
        assert seen(directory) == seen(self.story.directory)
        again = reduce_room(self.story.bus, self.room.id, map(read_record, self.room.records), directory)
        assert seen(again) == seen(self.room.state)


TestAttempts = Attempts.TestCase
TestAttempts.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
