"""The audit trail's bounds: nobody fills it by being refused, and nobody hides what somebody else was refused."""

from tests.builders import user
from tests.services.running import Node
from unibus.errors import Forbidden, NotAUser, SignatureMissing
from unibus.model.wire import AuditEntry
from unibus.services.audit import NOBODY, Audit
from unibus.services.refusals import (
    ACTOR_A_MINUTE,
    REMEMBERED,
    STRANGERS_A_MINUTE,
    USERS_A_MINUTE,
    Allowance,
    Refusals,
)


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


def test_an_allowance_is_for_one_minute() -> None:
    allowance = Allowance(2)
    assert [allowance.take(at) for at in (100.0, 101.0, 102.0, 159.9)] == [True, True, False, False]
    assert allowance.take(160.0)


async def test_strangers_do_not_use_up_what_is_noted_of_users(node: Node) -> None:
    trail = Trail(node)
    trail.refuse(NOBODY, STRANGERS_A_MINUTE + 600)
    trail.refuse(user("bob"))
    entries = await trail.entries()
    assert [entry.actor for entry in entries] == [NOBODY] * STRANGERS_A_MINUTE + [user("bob")]
    assert entries[-1].left_out == 0
    trail.now += 60
    trail.refuse(NOBODY)
    assert (await trail.entries())[-1].left_out == 600


async def test_one_member_hides_no_refusal_of_another(node: Node) -> None:
    trail = Trail(node)
    trail.refuse(user("eve"), 2 * USERS_A_MINUTE)
    trail.refuse(user("bob"), ACTOR_A_MINUTE)
    entries = await trail.entries()
    assert [entry.actor for entry in entries] == [user("eve")] * ACTOR_A_MINUTE + [user("bob")] * ACTOR_A_MINUTE
    assert {entry.left_out for entry in entries} == {0}
    await trail.audit.done("room.rename", actor=user("bob"))
    await trail.audit.done("room.rename", actor=user("eve"))
    bob, eve = (await trail.entries())[-2:]
    assert (bob.actor, bob.left_out) == (user("bob"), 0)
    assert (eve.actor, eve.left_out) == (user("eve"), 2 * USERS_A_MINUTE - ACTOR_A_MINUTE)


async def test_identities_that_anybody_can_make_count_as_one(node: Node) -> None:
    trail = Trail(node)
    made_up = [user(f"made up {number}") for number in range(USERS_A_MINUTE)]
    for actor in made_up:
        trail.refuse(actor, stranger=True)
    trail.refuse(user("bob"))
    entries = await trail.entries()
    assert [entry.actor for entry in entries] == [*made_up[:STRANGERS_A_MINUTE], user("bob")]


def test_all_users_together_cannot_fill_the_disk() -> None:
    refusals = Refusals()
    crowd = [f"U{number}" for number in range(50)]
    noted = [refusals.take(actor, 1000.0) for _ in range(ACTOR_A_MINUTE) for actor in crowd]
    assert sum(noted) == USERS_A_MINUTE
    assert sum(refusals.left_out(actor) for actor in crowd) == len(noted) - USERS_A_MINUTE


def test_the_memory_of_actors_is_bounded_and_loses_no_number() -> None:
    refusals = Refusals()
    for _ in range(ACTOR_A_MINUTE + 7):
        refusals.take("first", 1000.0)
    for number in range(2 * REMEMBERED):
        refusals.take(f"U{number}", 1000.0)
    assert len(refusals) == REMEMBERED
    assert refusals.left_out("first") == 0
    assert refusals.left_out(None) >= 7
