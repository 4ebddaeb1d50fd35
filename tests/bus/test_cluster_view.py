"""What is concluded from a server's answers about its cluster; in doubt, that it does not serve."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from unibus.bus.cluster_view import Copies, Peer, hindrance, read_copies, read_peers, shown, unkept
from unibus.bus.orphans import orphans
from unibus.bus.posture import Routes
from unibus.errors import BusUnavailable
from unibus.model.subjects import STREAM

ROUTES = Routes(cluster="trio", tls=True, tls_until=None, size=3, needed=2, leader="two")
TWO, THREE = Peer("two", "NTWO", "1ms"), Peer("three", "NTHREE", "1ms")
KEPT = Copies(replicas=3, leader="two", behind=(), lag=0)


def test_a_majority_with_a_leader_serves() -> None:
    assert hindrance(ROUTES, [TWO, THREE], 3) == hindrance(ROUTES, [TWO], 3) == ""


def test_what_is_missing_is_said() -> None:
    assert hindrance(ROUTES, [], 3) == "waiting for the cluster: 1 of 3 nodes"
    assert hindrance(replace(ROUTES, size=5, needed=3), [TWO], 3) == "waiting for the cluster: 2 of 5 nodes"
    assert hindrance(replace(ROUTES, size=0, needed=0, leader=None), [], 3) == "waiting for the cluster: 1 of 3 nodes"
    assert "choosing a leader" in hindrance(replace(ROUTES, leader=None), [TWO], 3)


def test_a_leader_that_has_lost_the_others_does_not_count() -> None:
    assert hindrance(replace(ROUTES, leader="one"), [], 3) == "waiting for the cluster: 1 of 3 nodes"


def test_messages_need_a_stream_with_a_leader() -> None:
    assert unkept(KEPT) == ""
    assert "no stream" in unkept(None)
    assert "too few of the 3" in unkept(replace(KEPT, leader=None))


def test_a_server_with_many_routes_is_one_peer() -> None:
    route = {"remote_id": "NTWO", "remote_name": "two", "rtt": "1ms"}
    assert read_peers({"data": {"routes": [route, route]}}) == (TWO,)
    assert read_peers({"data": {}}) == ()


def test_without_a_leader_nobody_is_known_to_be_current() -> None:
    replicas = [{"name": "one", "current": True}, {"name": "three", "current": False, "lag": 7}]
    answer = {"config": {"num_replicas": 3}, "cluster": {"leader": "two", "replicas": replicas}}
    assert read_copies(answer) == Copies(3, "two", ("three",), 7)
    without = {"config": {"num_replicas": 3}, "cluster": {"replicas": replicas}}
    assert read_copies(without) == Copies(3, None, ("one", "three"), 7)
    assert not read_copies(without).quorum


@pytest.mark.parametrize("answer", [{}, {"data": {"routes": [{}]}}, {"data": None}])
def test_routes_that_are_not_understood_are_no_routes(answer: Mapping[str, object]) -> None:
    with pytest.raises(BusUnavailable):
        read_peers(answer)


@pytest.mark.parametrize("answer", [{}, {"config": {}}, {"config": {"num_replicas": 3}, "cluster": None}])
def test_a_stream_that_is_not_understood_is_none(answer: Mapping[str, object]) -> None:
    with pytest.raises(BusUnavailable):
        read_copies(answer)


def test_there_is_a_quorum_only_where_one_was_told_of() -> None:
    assert shown(ROUTES, [], {})["quorum"] is False
    assert shown(ROUTES, [TWO], {STREAM: KEPT})["quorum"] is True
    assert shown(ROUTES, [TWO], {STREAM: KEPT, "KV_unibus": replace(KEPT, leader=None)})["quorum"] is False


def test_one_copy_is_not_high_availability() -> None:
    assert shown(ROUTES, [TWO], {STREAM: KEPT})["ha"] is True
    assert shown(ROUTES, [TWO], {STREAM: replace(KEPT, replicas=1)})["ha"] is False
    assert shown(ROUTES, [TWO], {STREAM: KEPT, "KV_unibus": replace(KEPT, replicas=1)})["ha"] is False


def test_an_orphan_is_a_delivery_of_a_server_that_is_away() -> None:
    owners = [("kept", "NTWO"), ("left", "NGONE"), ("not a delivery", None)]
    assert orphans(owners, {"NONE", "NTWO"}) == ["left"]
    assert orphans(owners, set()) == ["kept", "left"]
