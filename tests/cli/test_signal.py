"""`unibus signal`, `unibus tail --signals` and `unibus ask`: what is said between those who are there."""

import threading

from tests.cli.commands import Person
from tests.cli.conftest import Newcomer


def test_a_signal_is_shown_to_who_tails_signals_and_to_nobody_later(ada: Person, newcomer: Newcomer, room: str) -> None:
    sid = newcomer("signal-sid")
    ada.does("room", "add", room, "signal-sid")
    reading = sid.start("tail", room, "--signals", "--count", "1")
    heard = threading.Event()

    def signal() -> None:
        # Only the other process knows when it listens: signal until it has heard.
        while not heard.is_set():
            assert ada.does("signal", room, "ada", "is", "typing\x1b[2J") == "sent, to who listens\n"

    sending = threading.Thread(target=signal)
    sending.start()
    try:
        shown = sid.end(reading)
    finally:
        heard.set()
        sending.join()
    assert shown.out[8:] == "  ada  ada is typing\\x1b[2J\n"
    ada.does("send", room, "stored")
    (message,) = sid.values("tail", room, "--since", "start", "--count", "1")
    assert message["text"] == "stored"


def test_who_is_not_there_is_said_in_a_line(ada: Person, newcomer: Newcomer, room: str) -> None:
    newcomer("signal-ann")
    ada.does("room", "add", room, "signal-ann")
    assert ada.refused("ask", room, "signal-ann", "hello?") == "signal-ann is not listening in this room now"
    assert "is not in this room" in ada.refused("ask", room, "zoe", "and you?")


def test_signals_have_no_past(ada: Person, room: str) -> None:
    assert "not stored" in ada.refused("tail", room, "--signals", "--since", "start", status=2)
