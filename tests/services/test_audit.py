"""The audit trail's bounds: nobody fills it by being refused, and nobody hides what somebody else was refused."""

import asyncio
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import user
from tests.services.running import Node
from unibus.crypto.encoding import dump_json
from unibus.errors import Forbidden, NotAUser, SignatureMissing, StorageUnavailable
from unibus.model.wire import AuditEntry
from unibus.services.audit import NOBODY, Audit
from unibus.services.refusals import (
    ACTOR_AT_ONCE,
    REMEMBERED,
    STRANGERS_AT_ONCE,
    USERS_AT_ONCE,
    WITHIN,
    Allowance,
    Refusals,
)
from unibus.store.port import Append


class Trail:
    """An audit trail over the node's store, with a clock that a test sets."""

    def __init__(self, node: Node) -> None:
        self.now = 1000.0
        self.audit = Audit(node.store, "timed", lambda: self.now)

    def refuse(self, actor: str, times: int = 1, *, stranger: bool = False) -> None:
        for _ in range(times):
            error = SignatureMissing() if actor == NOBODY else NotAUser() if stranger else Forbidden()
            self.audit.refused("GET /v1/rooms", error, actor=actor, stranger=stranger)

    async def entries(self) -> list[AuditEntry]:
        await self.audit.close()
        return await self.audit.read(0, 2000)


def test_an_allowance_comes_back_within_an_hour() -> None:
    allowance = Allowance(2)
    assert [allowance.take(at) for at in (100.0, 101.0, 102.0, 1899.0)] == [True, True, False, False]
    assert [allowance.take(at) for at in (1901.0, 1902.0, 9000.0, 9000.0, 9000.0)] == [True, False, True, True, False]


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    allowance = Allowance(2)
    assert [allowance.take(at) for at in (9000.0, 100.0, 100.0, 1901.0)] == [True, True, False, True]


@given(st.lists(st.floats(0.0, 1000.0), max_size=2000))
def test_however_often_somebody_is_refused_a_day_has_its_bound(pauses: list[float]) -> None:
    allowance = Allowance(STRANGERS_AT_ONCE)
    times = list(accumulate(pauses, initial=0.0))
    noted = sum(allowance.take(at) for at in times)
    assert noted <= STRANGERS_AT_ONCE * (1 + times[-1] / WITHIN) + 1e-6


async def test_strangers_do_not_use_up_what_is_noted_of_users(node: Node) -> None:
    trail = Trail(node)
    trail.refuse(NOBODY, STRANGERS_AT_ONCE + 600)
    trail.refuse(user("bob"))
    entries = await trail.entries()
    assert [entry.actor for entry in entries] == [NOBODY] * STRANGERS_AT_ONCE + [user("bob")]
    assert entries[-1].left_out == 0
    trail.now += 60
    trail.refuse(NOBODY)
    assert (await trail.entries())[-1].left_out == 600


async def test_one_member_hides_no_refusal_of_another(node: Node) -> None:
    trail = Trail(node)
    trail.refuse(user("eve"), 2 * USERS_AT_ONCE)
    trail.refuse(user("bob"), ACTOR_AT_ONCE)
    entries = await trail.entries()
    assert [entry.actor for entry in entries] == [user("eve")] * ACTOR_AT_ONCE + [user("bob")] * ACTOR_AT_ONCE
    assert {entry.left_out for entry in entries} == {0}
    await trail.audit.done("room.rename", actor=user("bob"))
    await trail.audit.done("room.rename", actor=user("eve"))
    bob, eve = (await trail.entries())[-2:]
    assert (bob.actor, bob.left_out) == (user("bob"), 0)
    assert (eve.actor, eve.left_out) == (user("eve"), 2 * USERS_AT_ONCE - ACTOR_AT_ONCE)


async def test_identities_that_anybody_can_make_count_as_one(node: Node) -> None:
    trail = Trail(node)
    made_up = [user(f"made up {number}") for number in range(USERS_AT_ONCE)]
    for actor in made_up:
        trail.refuse(actor, stranger=True)
    trail.refuse(user("bob"))
    entries = await trail.entries()
    assert [entry.actor for entry in entries] == [*made_up[:STRANGERS_AT_ONCE], user("bob")]


async def test_what_was_left_out_is_told_of_by_the_next_entry_that_is_written(node: Node) -> None:
    trail = Trail(node)
    trail.refuse(user("bob"), ACTOR_AT_ONCE + 5)
    await trail.audit.close()
    with pytest.raises(StorageUnavailable), trail.audit.noting("room.rename", actor=user("bob")):
        raise StorageUnavailable("the disk is full")
    with trail.audit.noting("room.rename", actor=user("bob")) as entry:
        await node.store.append(entry)
    entries = await trail.entries()
    assert [entry.left_out for entry in entries] == [0] * ACTOR_AT_ONCE + [5]


async def test_who_waits_hears_of_the_next_entry_also_of_one_written_with_a_record(node: Node) -> None:
    trail = Trail(node)
    waiting = asyncio.create_task(trail.audit.wait(0, 20))
    with trail.audit.noting("room.create", actor=user("bob"), log="room/x") as entry:
        await node.store.append(Append("room/x", 1, b"record"), entry)
    await waiting
    (found,) = await trail.audit.read(0, 9)
    assert (found.number, found.action, found.facts) == (1, "room.create", {"log": "room/x"})
    await trail.audit.wait(1, 0.01)  # nothing more comes: it returns all the same


async def test_a_trail_of_an_earlier_version_reads_as_ever(node: Node) -> None:
    old = {"number": 1, "at": 1.0, "actor": NOBODY, "action": "a", "target": None, "origin": "-", "outcome": "ok"}
    await node.store.append(Append("audit/timed", 1, dump_json(old | {"facts": {}})))
    trail = Trail(node)
    await trail.audit.done("b", actor=NOBODY)
    assert [(entry.number, entry.action) for entry in await trail.entries()] == [(1, "a"), (2, "b")]


def test_all_users_together_cannot_fill_the_disk() -> None:
    refusals = Refusals()
    crowd = [f"U{number}" for number in range(50)]
    noted = [refusals.take(actor, 1000.0) for _ in range(ACTOR_AT_ONCE) for actor in crowd]
    assert sum(noted) == USERS_AT_ONCE
    assert sum(refusals.left_out(actor) for actor in crowd) == len(noted) - USERS_AT_ONCE


def test_the_memory_of_actors_is_bounded_and_loses_no_number() -> None:
    refusals = Refusals()
    for _ in range(ACTOR_AT_ONCE + 7):
        refusals.take("first", 1000.0)
    for number in range(2 * REMEMBERED):
        refusals.take(f"U{number}", 1000.0)
    assert len(refusals) == REMEMBERED
    assert refusals.left_out("first") == 0
    assert refusals.left_out(None) >= 7
