"""What nodes of a cluster make of each other's signs of life."""

import pytest

from unibus.daemon.beats import ALIVE, Beat, Heard, Rules, clock_off, disagreement, hear, namesake, shown, urls

RULES = Rules(cluster="c", bus_auth="enforce", tls=True, route_tls=True)


def beat(**changes: object) -> Beat:
    return Beat.model_validate({"instance": "i", "version": "1", "rules": RULES, "now": 1000.0} | changes)


def told(*nodes: tuple[str, Beat, float]) -> list[Heard]:
    """The nodes as they are heard at the second 1000: name, word, and when it came."""
    return hear({name: (said.encoded(), at) for name, said, at in nodes}, 1000.0)


def test_a_node_is_alive_until_it_was_silent_for_too_long() -> None:
    fresh, old = told(("a", beat(), 1000.0), ("b", beat(), 1000.0 - ALIVE - 0.1))
    assert (fresh.alive, old.alive) == (True, False)
    assert [node["alive"] for node in shown([fresh, old])] == [True, False]


@pytest.mark.parametrize("word", [b"", b"{}", b"no json", b'{"instance": 1}', b"\xff"])
def test_a_word_that_is_not_understood_harms_nobody(word: bytes) -> None:
    (node,) = hear({"a": (word, 1000.0)}, 1000.0)
    assert (node.beat, node.alive) == (None, True)
    assert namesake([node], "a", "i") is None
    assert disagreement([node], "b", RULES) is None
    assert urls([node]) == []
    assert clock_off([node], "a") == 0.0


def test_another_that_speaks_under_ones_name_is_noticed() -> None:
    assert namesake(told(("a", beat(), 1000.0)), "a", "i") is None
    found = namesake(told(("a", beat(instance="other"), 1000.0)), "a", "i")
    assert found == "another node of this cluster is called a: give each its own --node-name"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bus_auth": "warn"}, "bus auth is enforce here and warn on b: make them agree"),
        ({"tls": False}, "tls is on here and off on b: make them agree"),
        ({"route_tls": False}, "route tls is on here and off on b: make them agree"),
        ({"cluster": "d"}, "cluster is c here and d on b: make them agree"),
        ({"protocol": 2}, "protocol is 1 here and 2 on b: make them agree"),
    ],
)
def test_a_node_with_other_rules_is_named_with_the_rule(changes: dict[str, object], said: str) -> None:
    other = beat(rules=RULES.model_copy(update=changes))
    assert disagreement(told(("a", beat(), 1000.0), ("b", other, 999.0)), "a", RULES) == said
    assert disagreement(told(("b", other, 900.0)), "a", RULES) is None  # it is gone


def test_only_nodes_that_stay_are_named_to_clients() -> None:
    heard = told(
        ("a", beat(url="https://a:8470"), 1000.0),
        ("b", beat(url="https://b:8470", draining=True), 1000.0),
        ("c", beat(url="https://c:8470"), 900.0),
        ("d", beat(), 1000.0),
    )
    assert urls(heard) == ["https://a:8470"]


@pytest.mark.parametrize(
    ("clocks", "off"),
    [
        ((1000.0, 1000.0, 1000.0), 0.0),
        ((1100.0, 1000.0, 1000.0), 100.0),
        ((900.0, 1000.0, 1000.0), -100.0),
        ((1000.0, 1100.0, 1100.0), -100.0),  # also where ours is the clock that stamps all words
        ((1000.0, 1100.0, 1000.0), 0.0),
        ((1000.0, 1100.0), -50.0),
        ((1000.0,), 0.0),
    ],
)
def test_the_clock_that_most_nodes_have_is_the_right_one(clocks: tuple[float, ...], off: float) -> None:
    heard = told(*((name, beat(now=now), 1000.0) for name, now in zip("abc", clocks, strict=False)))
    assert clock_off(heard, "a") == off
