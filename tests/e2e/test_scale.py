"""Very many rooms, and very many others who are connected: what holds for few holds for them. Speed is not judged."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bench.harness import percentile
from bench.revocation import WAYS, crowd, cut
from bench.rooms import Place, cost, place, refusal

from tests.support.people import tail
from unibus import connect

CARRIED = 500
SEVERAL = 250  # more than the library carries at once


@pytest.fixture(params=[1_000, pytest.param(10_000, marks=pytest.mark.large)])
async def member(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Somebody in that many rooms."""
    async with place(tmp_path, request.param) as where:
        yield where


@pytest.mark.timeout(120)
async def test_a_member_of_very_many_rooms_uses_any_of_them(member: Place) -> None:
    async with connect(member.url, member.owner) as bus:
        for number in (0, len(member.rooms) // 2, -1):
            room = await bus.room(member.rooms[number])
            await room.send(room.id)
            async with tail(room) as reading:
                assert await reading.until(1) == [room.id]


@pytest.mark.large
@pytest.mark.timeout(120)
async def test_one_connection_writes_into_more_rooms_than_it_carries(tmp_path: Path) -> None:
    async with place(tmp_path, SEVERAL) as where, connect(where.url, where.owner) as bus:
        rooms = [await bus.room(room) for room in where.rooms]
        positions = [await room.send(room.id) for room in rooms]
        assert positions == sorted(set(positions))
        async with tail(rooms[0]) as reading:
            assert await reading.until(1) == [rooms[0].id]


@pytest.mark.timeout(120)
async def test_a_connection_costs_what_it_carries_and_the_limit_is_refused(member: Place, tmp_path: Path) -> None:
    one, most = await cost(member, 1, 5), await cost(member, CARRIED, 5)
    assert one.connect < 400
    assert most.connect < 16_384
    assert one.token < 4_096
    assert most.token < 2**20 / 2, "nats-server refuses what is above one MiB"
    for rooms in (member.rooms[: CARRIED + 1], None):
        assert "Authorization Violation" in await refusal(member, rooms)
    refused = [
        line for line in (tmp_path / "daemon.log").read_text().splitlines() if "a connection was refused" in line
    ]
    assert len(refused) == 2
    assert all('"code": "limit-reached"' in line for line in refused)


@pytest.mark.parametrize("way", WAYS)
async def test_who_loses_a_right_is_cut_at_once_whoever_else_is_there(tmp_path: Path, way: str) -> None:
    async with crowd(tmp_path, others=50, victims=2) as where:
        cuts = [await cut(where, *victim, WAYS[way]) for victim in where.victims]
    # Cut before the request is answered; the client's own loop may see the one a moment after the other.
    assert percentile([each.from_answer for each in cuts], 0.5) < 1.0
    assert len(cuts) == 2
