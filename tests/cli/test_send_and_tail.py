"""`unibus send` and `unibus tail`: what goes in comes out, all of it, once, in order, and harmless to look at."""

import asyncio
import base64
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.commands import UNIBUS, WAIT, Person, Town, interrupt
from unibus import connect, load_identity
from unibus.client.identity_file import state_path
from unibus.crypto.frames import Content, seal_frame
from unibus.model.subjects import room_messages


def test_one_message_there_and_back(ada: Person, room: str) -> None:
    sent = re.fullmatch(r"sent ([0-9]+\.0)\n", ada.does("send", room, "hello", "there"))
    assert sent
    (line,) = ada.does("tail", room, "--since", "start", "--count", "1").splitlines()
    assert line[8:] == "  ada  hello there"
    (message,) = ada.values("tail", room, "--since", "start", "--count", "1")
    assert message["position"] == sent[1]
    assert message["text"] == "hello there"
    assert message["handle"] == "ada"
    assert message["sender"] == ada.values("identity", "show")[0]["user"]


def test_a_thousand_lines_arrive_in_order(ada: Person, room: str) -> None:
    lines = [f"line {number} é" for number in range(1000)]
    (sent,) = ada.values("send", room, stdin="\n".join(lines).encode())
    assert (sent["room"], sent["sent"]) == (room, 1000)
    got = ada.values("tail", room, "--since", "start", "--count", "1000")
    assert [message["text"] for message in got] == lines
    middle = got[499]["position"]
    rest = ada.values("tail", room, "--since", middle, "--count", "500")
    assert [message["text"] for message in rest] == lines[500:]


def test_lines_go_out_as_they_come(ada: Person, room: str) -> None:
    sending = ada.start("send", room)
    reading = ada.start("tail", room, "--since", "start", "--count", "1")
    assert sending.stdin is not None
    sending.stdin.write(b"the first\n")
    sending.stdin.flush()
    assert ada.end(reading).out.endswith("the first\n")  # while the sender still waits for a second line
    assert ada.end(sending).out.startswith("sent ")


def test_nothing_to_send_is_said(ada: Person, room: str) -> None:
    assert ada.does("send", room) == "nothing to send\n"
    assert ada.values("send", room) == [{"room": room, "sent": 0, "position": None}]


def test_a_file_can_be_sent(ada: Person, room: str) -> None:
    path = ada.write("lines.txt", "one\ntwo\n")
    with path.open("rb") as file:
        ran = subprocess.run(
            [UNIBUS, "send", room],
            stdin=file,
            env=ada.environment,
            capture_output=True,
            check=True,
        )
    assert re.fullmatch(rb"sent 2 messages, the last at [0-9]+\.1\n", ran.stdout)


@pytest.mark.parametrize("since", ["yesterday", "1", "-1.0", "９.0"])
def test_a_position_that_is_none_is_refused(ada: Person, since: str) -> None:
    said = ada.refused("tail", "any", "--since", since)
    assert said.startswith("a position looks like 17.0, not ")


def test_a_message_that_is_too_large_is_refused_and_the_ones_before_it_are_not_lost(ada: Person, room: str) -> None:
    ran = ada.run("send", room, stdin=b"before\n" + b"x" * 2_000_000 + b"\nafter\n")
    assert ran.status == 1
    assert ran.out == ""
    first, second = ran.err.splitlines()
    assert first == "1 of the messages before this are stored"
    assert second.startswith("unibus: a message is at most ")
    assert ada.does("tail", room, "--since", "start", "--count", "1").endswith("  ada  before\n")


def test_messages_never_control_the_terminal(ada: Person, room: str) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eabc\u2028\rada: gone\x7f\\"
    ada.does("send", room, hostile)
    line = ada.does("tail", room, "--since", "start", "--count", "1")
    assert line.endswith("  ada  \\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202eabc\\u2028\\rada: gone\\x7f\\\n")
    raw = ada.does("--json", "tail", room, "--since", "start", "--count", "1")
    assert raw.removesuffix("\n").isprintable()
    assert ada.values("tail", room, "--since", "start", "--count", "1")[0]["text"] == hostile


def test_a_tail_without_follow_ends_after_what_is_stored(ada: Person, room: str) -> None:
    ada.does("send", room, stdin=b"one\ntwo\n")
    assert [line[10:] for line in ada.does("tail", room, "--since", "start", "--no-follow").splitlines()] == [
        "ada  one",
        "ada  two",
    ]
    said = ada.refused("tail", room, "--no-follow", status=2)
    assert said == "nothing is stored after now: say where to begin, such as --since start: see unibus tail --help"
    said = ada.refused("tail", room, "--no-follow", "--signals", status=2)
    assert said == "signals are not stored: leave --no-follow away: see unibus tail --help"


def test_a_day_other_than_today_has_a_line_of_its_own(ada: Person, town: Town, room: str) -> None:
    async def send_as_of(*times: datetime) -> None:
        async with connect(town.url, load_identity(ada.identity), state=state_path(ada.identity)) as bus:
            found = await bus.room(room)
            key, epoch = await bus.keyring.current(found.state), found.state.epoch_ref(len(found.state.epochs))
            heads = found.state.head, bus.directory.head
            connection = await bus.link.connection(found.id, write=True)
            for number, at in enumerate(times):
                content = Content(int(at.timestamp() * 1000), *heads, (b"a message",))
                frame = seal_frame(bus.identity.signing, key, epoch, b"a session of its"[:16], number, content)
                await connection.request(room_messages(found.id, bus.user), frame, WAIT)

    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    asyncio.run(send_as_of(noon, noon + timedelta(hours=1), noon + timedelta(days=1)))
    ada.does("send", room, "today")
    *past, _, today = ada.does("tail", room, "--since", "start", "--no-follow").splitlines()
    assert past == [
        "2026-03-01",
        "12:00:00  ada  a message",
        "13:00:00  ada  a message",
        "2026-03-02",
        "12:00:00  ada  a message",
    ]
    assert today.endswith("  ada  today")
    assert all(message.keys() >= {"sent_at"} for message in ada.values("tail", room, "--since", "start", "--no-follow"))


def test_bytes_that_are_no_text_come_back_as_they_were(ada: Person, room: str) -> None:
    ada.does("send", room, b"\xff\x80")
    ada.does("send", room, stdin=b"\x00\xff\n")
    first, second = ada.values("tail", room, "--since", "start", "--count", "2")
    assert (base64.b64decode(first["base64"]), base64.b64decode(second["base64"])) == (b"\xff\x80", b"\x00\xff")
    assert "text" not in first


def test_ctrl_c_ends_a_tail_quietly(ada: Person, room: str) -> None:
    ada.does("send", room, "a sign that it reads")
    process = ada.start("tail", room, "--since", "start")
    assert process.stdout is not None
    assert process.stdout.readline()
    interrupt(process)
    ran = ada.end(process)
    assert (ran.status, ran.out, ran.err) == (130, "", "\n")  # the line that ^C stands on is ended


def test_ctrl_c_ends_a_send_that_waits_for_input(ada: Person, room: str) -> None:
    process = ada.start("send", room)
    assert process.stdin is not None
    process.stdin.write(b"a line\n")
    process.stdin.flush()
    ada.does("tail", room, "--since", "start", "--count", "1")
    interrupt(process)
    assert process.wait(WAIT) == 130  # with its input still open
    ran = ada.end(process)
    assert (ran.out, ran.err) == ("", "\n")


def test_a_reader_that_goes_away_is_no_error(ada: Person, room: str) -> None:
    ada.does("send", room, stdin=b"".join(b"line %d\n" % number for number in range(5000)))
    process = ada.start("tail", room, "--since", "start")
    assert process.stdout is not None
    assert process.stdout.readline().endswith(b"line 0\n")
    process.stdout.close()
    assert process.stdin is not None
    assert process.stderr is not None
    with process.stdin, process.stderr:
        assert process.stderr.read() == b""
        assert process.wait(WAIT) == 1


def test_a_full_disk_is_said_in_one_line(ada: Person) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        ran = ada.end(ada.start("user", "list", stdout=full))
    finally:
        os.close(full)
    assert (ran.status, ran.err) == (74, "unibus: no space left on device\n")
