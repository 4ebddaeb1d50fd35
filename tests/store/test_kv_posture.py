"""What the KV engine says of itself: never more than what its leader says and what it has proven."""

from typing import Any

from unibus.store.kv_posture import describe


def info(replicas: int, *others: dict[str, object]) -> dict[str, Any]:
    cluster = {"leader": "n0", "replicas": list(others)}
    return {"config": {"num_replicas": replicas}, "state": {"last_seq": 20}, "cluster": cluster}


def test_three_that_are_current_are_highly_available() -> None:
    found = info(3, {"name": "n1", "current": True}, {"name": "n2", "current": True})
    assert describe(found, None, 18, durable=True) == {
        "engine": "kv",
        "durable": True,
        "replicas": 3,
        "current_replicas": 3,
        "leader": "n0",
        "quorum": True,
        "lag": 2,
        "ha": True,
        "reasons": [],
    }


def test_one_is_not_and_that_is_no_fault() -> None:
    for found in (info(1), {**info(1), "cluster": None}):
        posture = describe(found, None, 25, durable=False)
        assert (posture["ha"], posture["lag"], posture["durable"], posture["reasons"]) == (False, 0, False, [])


def test_who_is_away_is_named() -> None:
    silent = {"name": "n2", "current": False, "active": 6_000_000_000}
    behind = {"name": "n3", "current": False, "active": 1, "lag": 101}
    gone = {"name": "n1", "current": True, "offline": True}
    posture = describe(info(5, silent, behind, gone, {"name": "n4", "current": True}), None, 20, durable=True)
    assert (posture["current_replicas"], posture["quorum"]) == (2, True)
    assert posture["reasons"] == ["replicas that are away or behind: n1, n2, n3"]


def test_a_replica_that_takes_in_the_latest_writes_is_not_current_but_no_reason_to_worry() -> None:
    found = info(3, {"name": "n1", "current": False, "active": 1000, "lag": 3}, {"name": "n2", "current": True})
    posture = describe(found, None, 20, durable=True)
    assert (posture["current_replicas"], posture["reasons"]) == (2, [])


def test_too_few_nodes_are_not_highly_available_whatever_was_asked_for() -> None:
    posture = describe(info(3, {"name": "n1", "current": True}), None, 20, durable=True)
    assert posture["ha"] is False
    assert posture["reasons"] == ["there are 2 nodes to keep the records, which are to be on 3: add a node"]


def test_without_an_answer_or_a_proof_there_is_no_quorum() -> None:
    assert describe(None, None, 20, durable=True)["reasons"] == ["the cluster's bucket of records does not answer"]
    for found in (None, info(3)):
        posture = describe(found, "no proof", 20, durable=True)
        assert posture["quorum"] is False
        assert posture["reasons"] == ["no proof"]
