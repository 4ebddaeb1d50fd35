"""One delivery: frames in order, gaps and silence found, flow control answered, and nothing odd that breaks it."""

import pytest

from unibus.client.delivery import DeliveryState, Frame, Idle, Reopen, Reply

HERE = "room.plans.msg.UABC"


def ack(sequence: int | str, consumed: int | str, pending: int | str = 0) -> str:
    """The reply subject that JetStream gives a delivered message."""
    return f"$JS.ACK.ROOMS.consumer.1.{sequence}.{consumed}.1700000000000000000.{pending}"


def test_frames_come_with_their_place_in_the_stream() -> None:
    state = DeliveryState(4)
    assert state.step(HERE, ack(5, 1), None, b"one") == Frame(5, HERE, b"one", 0)
    assert state.step(HERE, ack(9, 2, 17), {}, b"two") == Frame(9, HERE, b"two", 17)
    assert state.last == 9


def test_a_gap_in_the_consumers_numbers_opens_anew_from_the_last_frame() -> None:
    state = DeliveryState(0)
    assert state.step(HERE, ack(1, 1), None, b"one") == Frame(1, HERE, b"one", 0)
    assert state.step(HERE, ack(3, 3), None, b"three") == Reopen()
    assert state.last == 1


def test_a_consumer_that_begins_again_opens_anew() -> None:
    state = DeliveryState(0)
    state.step(HERE, ack(1, 1), None, b"one")
    assert state.step(HERE, ack(1, 1), None, b"one") == Reopen()


def test_what_was_handled_before_is_passed_over() -> None:
    state = DeliveryState(7)
    assert state.step(HERE, ack(7, 1), None, b"old") is None
    assert state.step(HERE, ack(8, 2), None, b"new") == Frame(8, HERE, b"new", 0)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "elsewhere",
        "$JS.ACK.ROOMS.consumer.1.5.1.0",
        "$JS.ACK.ROOMS.consumer.1.5.1.0.0.0",
        "$JS.NAK.ROOMS.consumer.1.5.1.0.0",
        ack("-1", 1),
        ack("", 1),
        ack("²", 1),
        ack(1, "٣"),
        ack("9" * 5000, 1),
        ack(1, "9" * 5000),
        ack(1, 1, "9" * 5000),
    ],
)
def test_a_reply_subject_of_another_form_is_no_frame(reply: str) -> None:
    state = DeliveryState(0)
    assert state.step(HERE, reply, None, b"what?") is None
    assert state.step(HERE, ack(1, 1), None, b"one") == Frame(1, HERE, b"one", 0)


HEARTBEAT = {"Status": "100", "Description": "Idle Heartbeat"}


@pytest.mark.parametrize(
    ("headers", "reply", "step"),
    [
        (HEARTBEAT, "", None),
        (HEARTBEAT | {"Nats-Last-Consumer": "1"}, "", Idle()),
        (HEARTBEAT | {"Nats-Last-Consumer": "0"}, "", None),
        (HEARTBEAT | {"Nats-Last-Consumer": "2"}, "", Reopen()),
        (HEARTBEAT | {"Nats-Last-Consumer": "²"}, "", None),
        (HEARTBEAT | {"Nats-Last-Consumer": "9" * 5000}, "", None),
        (HEARTBEAT | {"Nats-Consumer-Stalled": "$JS.FC.ROOMS.a.b"}, "", Reply("$JS.FC.ROOMS.a.b")),
        (HEARTBEAT | {"Nats-Last-Consumer": "1", "Nats-Consumer-Stalled": "$JS.FC.a"}, "", Reply("$JS.FC.a")),
        ({"Status": "100", "Description": "FlowControl Request"}, "$JS.FC.ROOMS.a.b", Reply("$JS.FC.ROOMS.a.b")),
        ({"Status": "100"}, "room.aaaa.msg.UABC", None),
        (HEARTBEAT | {"Nats-Consumer-Stalled": "ctl.UABC.deliver"}, "", None),
        ({"Status": "409", "Description": "Consumer Deleted"}, "", Reopen()),
        ({"Status": "503"}, "", Reopen()),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_status_is_answered_or_reopens(headers: dict[str, str], reply: str, step: object) -> None:
    state = DeliveryState(0)
    state.step(HERE, ack(1, 1), None, b"one")
    assert state.step(HERE, reply, headers, b"") == step
    assert state.last == 1


@pytest.mark.parametrize("headers", [{"Status": "503"}, HEARTBEAT | {"Nats-Last-Consumer": "9"}], ids=str)
def test_what_is_stored_is_a_frame_whatever_its_publisher_wrote_into_its_headers(headers: dict[str, str]) -> None:
    state = DeliveryState(0)
    assert state.step(HERE, ack(1, 1), headers, b"one") == Frame(1, HERE, b"one", 0)
