"""Partitions in all shapes, slow and lossy links, while people work who still reach every node."""

from collections.abc import Callable

import pytest

from tests.chaos.conftest import Stage
from tests.chaos.network import Network

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

Shape = Callable[[Network, str, str, str], None]
"""Breaks a network of the leader, and of two others."""


def leader_alone(network: Network, leader: str, one: str, other: str) -> None:
    network.cut(leader, one)
    network.cut(leader, other)


def follower_alone(network: Network, leader: str, one: str, other: str) -> None:
    network.cut(one, leader)
    network.cut(one, other)


def leader_unheard(network: Network, leader: str, one: str, other: str) -> None:
    network.drop(leader, one)
    network.drop(leader, other)


def leader_deaf(network: Network, leader: str, one: str, other: str) -> None:
    network.drop(one, leader)
    network.drop(other, leader)


def follower_deaf(network: Network, leader: str, one: str, other: str) -> None:
    assert other
    network.drop(leader, one)


def all_alone(network: Network, leader: str, one: str, other: str) -> None:
    network.cut(leader, one)
    network.cut(leader, other)
    network.cut(one, other)


def follower_bridges(network: Network, leader: str, one: str, other: str) -> None:
    assert other
    network.cut(leader, one)


def leader_bridges(network: Network, leader: str, one: str, other: str) -> None:
    assert leader
    network.cut(one, other)


SHAPES: dict[str, Shape] = {
    "the leader is cut off from both": leader_alone,
    "another node is cut off from both": follower_alone,
    "the leader is not heard by the others": leader_unheard,
    "the leader does not hear the others": leader_deaf,
    "one node does not hear the leader": follower_deaf,
    "only one node sees both, and does not lead": follower_bridges,
    "only the leader sees both": leader_bridges,
    "nobody sees anybody": all_alone,
}


@pytest.mark.parametrize("title", SHAPES)
async def test_a_partition(stage: Stage, title: str) -> None:
    await stage.cluster.start()
    leader = (await stage.cluster.leader()).name
    one, other = (node.name for node in stage.cluster.others(leader))

    async def break_it() -> None:
        SHAPES[title](stage.network, leader, one, other)

    async def heal() -> None:
        stage.network.heal()

    await stage.play(title, break_it, heal, hold=12.0, started=True)


async def test_a_slow_link(stage: Stage) -> None:
    async def slow() -> None:
        stage.network.slow("n3", "256kbit")

    async def heal() -> None:
        stage.network.heal()

    await stage.play("a node sends at 256 kbit/s", slow, heal)


async def test_a_link_loses_packets(stage: Stage) -> None:
    await stage.cluster.start()
    leader = (await stage.cluster.leader()).name

    async def lose() -> None:
        stage.network.lose(leader, 0.2)

    async def heal() -> None:
        stage.network.heal()

    await stage.play("a fifth of what the leader sends is lost", lose, heal, started=True)
