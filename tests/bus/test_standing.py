"""A node that does not know what is decided elsewhere keeps nobody, but sends nobody away for an election."""

from pathlib import Path

from tests.bus.stage import ROOM, Logbook, Stage, TablePolicy, can_connect
from unibus.bus.options import BusOptions
from unibus.bus.plane import BusPlane
from unibus.bus.standing import AWAY_AFTER, Standing

LONGEST_ELECTION = 10.0


def test_only_a_long_absence_counts_and_each_one_anew() -> None:
    standing = Standing()
    assert not standing.lost(None, 0.0)
    assert not standing.lost("no quorum", 100.0)
    assert not standing.lost("no quorum", 100.0 + LONGEST_ELECTION)
    assert not standing.lost("no quorum", 100.0 + AWAY_AFTER - 0.1)
    assert standing.lost("no quorum", 100.0 + AWAY_AFTER)
    assert not standing.lost(None, 116.0)
    assert not standing.lost("no quorum", 117.0)
    assert standing.lost("no quorum", 117.0 + AWAY_AFTER)


async def test_members_are_sent_away_and_come_back_when_the_node_is_current(tmp_path: Path) -> None:
    policy, log = TablePolicy(), Logbook()
    now, reason = 100.0, None

    def current() -> str | None:
        return reason

    plane = BusPlane(BusOptions(tmp_path, port=0), policy, log.logger, monotonic=lambda: now, current=current)
    await plane.start()
    try:
        stage = Stage(plane, policy, log)
        alice, bob = stage.member(ROOM), stage.member(ROOM)
        async with stage.connect(alice) as a, stage.connect(bob) as b:
            now += 1000.0
            assert (await a.publish())["seq"] == 1
            reason = "the cluster has no quorum now"
            told = await log.heard("a node is not current: its members stay for a moment")
            assert told["reason"] == reason
            assert (await a.publish())["seq"] == 2
            now += AWAY_AFTER
            await a.closed.wait()
            await b.closed.wait()
        await log.heard("members are sent away until this node is current again", reason=reason, members=2)
        reason = None
        assert await can_connect(stage, alice)
    finally:
        await plane.stop()
