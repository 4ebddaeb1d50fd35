"""The checker itself: it finds nothing in a good history, and each kind of fault in one that has it."""

from dataclasses import replace

import pytest

from tests.chaos.history import MESSAGES, Accepted, Failed, History, Seen, Shown, Written, faults, longest_wait

LOG = "directory"


def good() -> tuple[History, dict[str, Shown]]:
    """Two who write and read, one who is removed, one who asks; and two nodes that show all of it."""
    written = [
        Written(MESSAGES, "ada 0", 0.0, 0.1),
        Written(MESSAGES, "bob 0", 0.0, 0.2),
        Written(MESSAGES, "ada 1", 0.2, 0.3),
        Written(MESSAGES, "ada 2", 1.0, 1.5),
        Written(LOG, "ada admits 0", 0.0, 0.1),
        Written(LOG, "ada admits 1", 0.2, 0.3),
    ]
    kept = {MESSAGES: ["bob 0", "ada 0", "ada 1", "unsure 0", "ada 2"], LOG: ["ada admits 0", "ada admits 1"]}
    history = History(
        written=written,
        seen=[Seen("erin", LOG, 1), Seen("erin", LOG, 2), Seen("bob", LOG, 1)],
        accepted=[Accepted("one", "n1"), Accepted("two", "n2")],
        got={"bob": list(kept[MESSAGES]), "dave": ["bob 0", "ada 0"]},
        removed={"dave": 0.5},
    )
    return history, {"n1": kept, "n2": dict(kept)}


def test_a_good_history_has_no_fault() -> None:
    assert faults(*good()) == []


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        (["bob 0", "ada 0", "unsure 0", "ada 2"], "n2 lacks what was acknowledged in messages: ada 1"),
        (["bob 0", "ada 0", "ada 1", "ada 1", "unsure 0", "ada 2"], "n2 shows ada 1 2 times in messages"),
        (["bob 0", "ada 1", "ada 0", "unsure 0", "ada 2"], "n2 shows what ada wrote in messages in another order"),
        (["bob 0", "ada 0", "ada 1", "ada 2"], "n1 and n2 show different things in messages"),
    ],
    ids=["lost", "twice", "out of order", "different"],
)
def test_a_node_that_shows_something_else(messages: list[str], fault: str) -> None:
    history, shown = good()
    shown["n2"] = {**shown["n2"], MESSAGES: messages}
    assert any(found.startswith(fault) for found in faults(history, shown))


def test_a_record_that_was_lost() -> None:
    history, shown = good()
    shown = {name: {**one, LOG: ["ada admits 0"]} for name, one in shown.items()}
    assert "n1 lacks what was acknowledged in directory: ada admits 1" in faults(history, shown)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"accepted": [Accepted("one", "n1"), Accepted("one", "n3")]},
            "one signed request was taken 2 times, by n1, n3",
        ),
        ({"seen": [Seen("erin", LOG, 2), Seen("erin", LOG, 1)]}, "erin was shown directory up to 1, after 2"),
        ({"failed": [Failed("ada 3", "no-quorum", 1.0)]}, "ada 3 failed at 1.00: no-quorum"),
        ({"refused": ["frame-invalid"]}, "a message was not believed: frame-invalid"),
        ({"got": {"bob": ["bob 0", "ada 0"]}}, "bob was given 2 of 5 messages"),
        ({"got": {"bob": ["ada 0", "bob 0"]}}, "bob was given other messages than were kept, from number 0 of 2 on"),
        (
            {"got": {"dave": ["bob 0", "ada 0", "ada 1", "unsure 0", "ada 2"]}},
            "dave was given what was sent after the removal: ada 2",
        ),
    ],
    ids=["replay", "backwards", "failed", "refused", "not all", "another order", "after the removal"],
)
def test_what_must_never_be_in_a_history(change: dict[str, object], fault: str) -> None:
    history, shown = good()
    assert fault in faults(replace(history, **change), shown)  # type: ignore[arg-type]  # the members of History


def test_the_longest_wait_is_one_writers() -> None:
    history, _ = good()
    assert longest_wait(history, MESSAGES, 0.0, 2.0) == pytest.approx(1.8)
    assert longest_wait(history, LOG, 0.0, 0.4) == pytest.approx(0.2)
