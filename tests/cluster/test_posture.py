"""What `unibus posture` calls a fault: every way in which nodes are not as they must be, or not as each other."""

from typing import Any

import pytest

from unibus.cluster.posture import HEAD, Asked, faults, row

WELL: dict[str, Any] = {
    "status": "ok",
    "reasons": [],
    "node": "a",
    "version": "1.0",
    "bus_auth": "enforce",
    "acl": True,
    "tls": True,
    "route_tls": True,
    "store": {"engine": "kv", "durable": True, "replicas": 3, "leader": "a", "quorum": True, "lag": 0},
    "bus": {"version": "2.15.1"},
    "cluster": {"name": "unibus"},
}


def node(name: str, store: dict[str, Any] | None = None, **changes: object) -> Asked:
    health = WELL | {"node": name} | changes
    health["store"] = WELL["store"] | (store or {})
    return Asked(f"https://{name}:8470", health)


def test_three_nodes_that_are_well_and_alike_have_no_fault() -> None:
    nodes = [node(name) for name in "abc"]
    assert faults(nodes) == []
    assert [row(it)[0] for it in nodes] == ["a", "b", "c"]
    assert dict(zip(HEAD, row(nodes[0]), strict=True)) == {
        "node": "a",
        "status": "ok",
        "auth": "enforce",
        "acl": "yes",
        "tls": "yes",
        "routes": "yes",
        "store": "kv",
        "copies": "3",
        "leader": "a",
        "quorum": "yes",
        "lag": "0",
        "version": "1.0",
    }


@pytest.mark.parametrize(
    ("third", "said"),
    [
        (Asked("https://c:8470", None, "no answer"), ["https://c:8470: no answer"]),
        (node("c", bus_auth="warn"), ["c: bus auth is warn, not enforce", "c: auth is warn, on most nodes enforce"]),
        (
            node("c", acl=False),
            ["c: subjects are not limited to members (acl)", "c: acl is no, on most nodes yes"],
        ),
        (node("c", tls=False), ["c: clients are not served over tls", "c: tls is no, on most nodes yes"]),
        (
            node("c", route_tls=None),
            ["c: the routes between the nodes have no mutual tls", "c: route tls is -, on most nodes yes"],
        ),
        (node("c", {"quorum": False}), ["c: there is no quorum"]),
        (node("c", {"quorum": None}), ["c: there is no quorum"]),
        (node("c", {"replicas": 1}), ["c: copies is 1, on most nodes 3"]),
        (node("c", {"durable": False}), ["c: durability is no, on most nodes yes"]),
        (node("c", version="0.9"), ["c: version is 0.9, on most nodes 1.0"]),
        (node("c", cluster={"name": "other"}), ["c: cluster is other, on most nodes unibus"]),
        (node("c", bus={"version": "2.14.0"}), ["c: nats-server is 2.14.0, on most nodes 2.15.1"]),
        (node("c", status="degraded", reasons=["the disk is full"]), ["c: the disk is full"]),
        (node("c", status="degraded"), ["c: it is degraded and does not say why"]),
        (node("a"), ["2 addresses lead to a node called a"]),
    ],
)
def test_each_fault_is_told_with_the_node_that_has_it(third: Asked, said: list[str]) -> None:
    assert faults([node("a"), node("b"), third]) == said


def test_where_no_value_is_the_usual_one_all_are_told() -> None:
    assert faults([node("a", version="1"), node("b", version="2")]) == ["the nodes differ in version: a 1, b 2"]


def test_an_answer_that_leaves_everything_out_is_not_taken_for_well() -> None:
    said = faults([Asked("https://a:8470", {"status": "ok"})])
    assert len(said) == 3
    assert row(Asked("https://a:8470", {"status": "ok"}))[1:4] == ("ok", "-", "-")
