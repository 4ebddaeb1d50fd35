"""When a node is current: only what was written after a moment, and has come back, proves that moment."""

import asyncio

from unibus.store.kv_progress import Progress


async def test_an_acknowledgement_alone_proves_nothing() -> None:
    progress = Progress(lease=5.0)
    progress.acknowledged(7, began=100.0)
    assert not progress.current(100.0)
    progress.advance(6)
    assert not progress.current(100.0)
    progress.advance(7)
    assert progress.current(100.0)


async def test_a_proof_counts_from_when_its_write_began() -> None:
    progress = Progress(lease=5.0)
    progress.acknowledged(1, began=100.0)
    progress.advance(1)
    assert progress.current(105.0)
    assert not progress.current(105.1)
    assert progress.proven_since(99.9)
    assert not progress.proven_since(100.0)


async def test_what_is_reached_before_its_acknowledgement_arrives_is_proven_by_it() -> None:
    progress = Progress(lease=5.0)
    progress.advance(9)
    assert not progress.current(100.0)
    progress.acknowledged(9, began=100.0)
    assert progress.current(100.0)


async def test_an_older_proof_does_not_shorten_a_newer_one() -> None:
    progress = Progress(lease=5.0)
    progress.acknowledged(2, began=110.0)
    progress.acknowledged(1, began=100.0)
    progress.advance(2)
    assert progress.current(115.0)
    progress.acknowledged(1, began=90.0)
    assert progress.current(115.0)


async def test_a_replica_that_was_replaced_is_not_current_whatever_was_acknowledged_before() -> None:
    progress = Progress(lease=5.0)
    progress.acknowledged(1, began=100.0)
    progress.acknowledged(9, began=100.0)
    progress.advance(1)
    progress.void()
    assert not progress.current(100.0)
    progress.restart(0)
    progress.advance(20)
    assert not progress.current(100.0)


async def test_who_waits_is_woken_in_time_and_others_may_have_left() -> None:
    progress = Progress(lease=5.0)
    waiting = {sequence: asyncio.ensure_future(progress.reach(sequence)) for sequence in (3, 1, 2)}
    proof = asyncio.ensure_future(progress.proof())
    await asyncio.sleep(0)
    waiting[1].cancel()
    progress.advance(2)
    await asyncio.wait([waiting[1], waiting[2]])
    assert waiting[1].cancelled()
    assert waiting[2].done()
    assert not waiting[3].done()
    progress.advance(3)
    await waiting[3]
    await progress.reach(3)
    assert not proof.done()
    progress.acknowledged(3, began=1.0)
    await proof
