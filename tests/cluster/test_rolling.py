"""Which node a roll touches next, and that it touches none that the cluster cannot lose."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.example import NAMES, example
from unibus.cluster.health import NodeHealth, can_lose
from unibus.cluster.hosts import HostFacts
from unibus.cluster.rolling import Action, Finished, Refuse, Restart, Start, Wait, next_action, outline

CLUSTER = example()
WELL = NodeHealth(answers=True, ok=True, quorum=True)
ILL = NodeHealth(answers=True, quorum=True, reasons=("the disk is full",))
LONELY = NodeHealth(answers=True, reasons=("waiting for the cluster: 1 of 3 nodes",))
SILENT = NodeHealth()
STOPPED = HostFacts(installed=100)
OLD = HostFacts(installed=100, started=50)
NEW = HostFacts(installed=100, started=150)

State = tuple[HostFacts, NodeHealth]


def act(*states: State, done: tuple[str, ...] = (), **how: bool) -> Action:
    facts = {name: state[0] for name, state in zip(NAMES, states, strict=True)}
    health = {name: state[1] for name, state in zip(NAMES, states, strict=True)}
    return next_action(CLUSTER, facts, health, done, **how)


def test_a_cluster_is_brought_up_one_node_at_a_time() -> None:
    off = (STOPPED, SILENT)
    assert act(off, off, off) == Start("magnus")
    assert act((NEW, SILENT), off, off, done=("magnus",)) == Wait("magnus does not answer yet")
    # Too few nodes are never well, and the records of a new cluster need all three: it answers, and that has to do.
    assert act((NEW, LONELY), off, off, done=("magnus",)) == Start("homer")
    assert act((NEW, LONELY), (NEW, LONELY), off, done=("magnus", "homer")) == Start("datardos")
    assert act((NEW, LONELY), (NEW, LONELY), (NEW, LONELY), done=NAMES) == Wait(
        "magnus is not well yet: waiting for the cluster: 1 of 3 nodes"
    )
    assert act((NEW, WELL), (NEW, WELL), (NEW, ILL), done=NAMES) == Wait("datardos is not well yet: the disk is full")
    assert act((NEW, WELL), (NEW, WELL), (NEW, WELL), done=NAMES) == Finished()


def test_a_node_that_was_started_is_well_before_another_is_restarted() -> None:
    assert isinstance(act((NEW, ILL), (OLD, WELL), (OLD, WELL), done=("magnus",)), Wait)


def test_old_ones_are_restarted_one_at_a_time() -> None:
    assert act((OLD, WELL), (OLD, WELL), (OLD, WELL)) == Restart("magnus")
    assert isinstance(act((NEW, SILENT), (OLD, WELL), (OLD, WELL), done=("magnus",)), Wait)
    assert isinstance(act((NEW, ILL), (OLD, WELL), (OLD, WELL), done=("magnus",)), Wait)
    assert act((NEW, WELL), (OLD, WELL), (OLD, WELL), done=("magnus",)) == Restart("homer")
    assert act((NEW, WELL), (NEW, WELL), (NEW, WELL)) == Finished()


def test_who_runs_what_is_installed_is_restarted_only_when_asked() -> None:
    state = (NEW, WELL)
    assert act(state, state, state, everyone=True) == Restart("magnus")
    assert act(state, state, state, done=NAMES, everyone=True) == Finished()


def test_a_stopped_node_is_started_before_a_running_one_is_restarted() -> None:
    assert act((OLD, WELL), (OLD, WELL), (STOPPED, SILENT)) == Start("datardos")


@pytest.mark.parametrize("others", [((OLD, SILENT), (OLD, WELL)), ((OLD, LONELY), (OLD, LONELY))])
def test_no_running_node_is_taken_down_without_quorum(others: tuple[State, State]) -> None:
    action = act((OLD, WELL), *others)
    assert action == Refuse("the cluster lacks quorum without magnus: bring the other nodes up first")


def test_a_node_that_ends_again_stops_the_roll() -> None:
    state = (NEW, WELL)
    assert isinstance(act((STOPPED, SILENT), state, state, done=("magnus",)), Wait)
    # It answers, but not by its service: somebody else listens there.
    assert isinstance(act((STOPPED, WELL), state, state, done=("magnus",)), Refuse)


def test_nothing_is_started_where_nothing_is_installed() -> None:
    action = act((STOPPED, SILENT), (HostFacts(), SILENT), (HostFacts(), SILENT))
    assert action == Refuse("nothing is installed on homer, datardos: deploy first")


def test_a_new_secret_moves_over_in_the_only_order_there_is() -> None:
    start = act((OLD, WELL), (OLD, WELL), (OLD, WELL), new_secret=True)
    assert start == Restart("magnus")
    # magnus is alone with the new secret, and the two others are a quorum without it
    alone = act((NEW, LONELY), (OLD, WELL), (OLD, WELL), done=("magnus",), new_secret=True)
    assert alone == Restart("homer")
    both = ("magnus", "homer")
    assert isinstance(act((NEW, LONELY), (NEW, LONELY), (OLD, LONELY), done=both, new_secret=True), Wait)
    # As a quorum of their own they miss the third, which is no reason to wait: it waits for its restart.
    assert act((NEW, ILL), (NEW, ILL), (OLD, LONELY), done=both, new_secret=True) == Restart("datardos")
    assert isinstance(act((NEW, WELL), (NEW, WELL), (NEW, ILL), done=NAMES, new_secret=True), Wait)
    assert act((NEW, WELL), (NEW, WELL), (NEW, WELL), done=NAMES, new_secret=True) == Finished()


def test_a_new_secret_is_not_begun_without_quorum() -> None:
    assert isinstance(act((OLD, WELL), (OLD, SILENT), (OLD, WELL), new_secret=True), Refuse)


def test_the_outline_is_what_a_roll_does_when_all_goes_well() -> None:
    facts = dict(zip(NAMES, (OLD, STOPPED, NEW), strict=True))
    assert outline(CLUSTER, facts) == [Start("homer"), Restart("magnus")]
    assert outline(CLUSTER, facts, everyone=True) == [Start("homer"), Restart("magnus"), Restart("datardos")]


healths = st.builds(NodeHealth, answers=st.booleans(), ok=st.booleans(), quorum=st.booleans())
hosts = st.builds(HostFacts, installed=st.sampled_from([0, 100]), started=st.sampled_from([0, 50, 150]))


@given(st.tuples(*[st.tuples(hosts, healths)] * 3), st.permutations(NAMES), st.integers(0, 3), st.booleans())
def test_whatever_is_seen_a_restart_leaves_a_quorum(
    states: tuple[State, ...], order: list[str], count: int, everyone: bool
) -> None:
    action = act(*states, done=tuple(order[:count]), everyone=everyone)
    if isinstance(action, Restart):
        health = {name: state[1] for name, state in zip(NAMES, states, strict=True)}
        assert can_lose(CLUSTER, [action.node], health)
        assert action.node not in order[:count]
        others = [state for name, state in zip(NAMES, states, strict=True) if name != action.node]
        assert sum(health.quorum for _, health in others) >= 2


@given(st.tuples(*[hosts] * 3), st.booleans(), st.booleans())
def test_a_roll_ends(facts: tuple[HostFacts, ...], everyone: bool, new_secret: bool) -> None:
    installed = {name: replace(one, installed=100) for name, one in zip(NAMES, facts, strict=True)}
    steps = outline(CLUSTER, installed, everyone=everyone, new_secret=new_secret)
    assert len({step.node for step in steps}) == len(steps) <= 3
