"""The audit trail's bounds: nobody fills it by being refused, and no stranger hides what a user was refused."""

from tests.builders import user
from tests.services.running import Node
from unibus.errors import Forbidden, SignatureMissing
from unibus.services.audit import NOBODY, REFUSALS_A_MINUTE, STRANGERS_A_MINUTE, Allowance


def test_an_allowance_is_for_one_minute_and_counts_what_is_over() -> None:
    allowance = Allowance(2)
    assert [allowance.take(at) for at in (100.0, 101.0, 102.0, 159.9)] == [True, True, False, False]
    assert allowance.left_out == 2
    assert allowance.take(160.0)


async def test_strangers_do_not_use_up_what_is_noted_of_users(node: Node) -> None:
    before = len(await node.audit.read(0, 1000))
    for _ in range(STRANGERS_A_MINUTE + REFUSALS_A_MINUTE):
        node.audit.refused("GET /v1/rooms", SignatureMissing(), actor=NOBODY)
    node.audit.refused("user.admit", Forbidden(), actor=user("bob"))
    await node.audit.close()
    entries = (await node.audit.read(0, 1000))[before:]
    assert [entry.actor for entry in entries] == [NOBODY] * STRANGERS_A_MINUTE + [user("bob")]
    assert entries[-1].left_out == REFUSALS_A_MINUTE
