"""What goes wrong at a terminal: a pipe that nobody reads, ctrl-c at once, names that a terminal cannot show."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import DAEMON, UNIBUS, WAIT, Person, Town, interrupt
from unibus.cli.output import columns


@pytest.mark.parametrize("command", ["audit", "tail"])
def test_who_waits_for_news_ends_with_who_reads_them(ada: Person, room: str, command: str) -> None:
    ada.does("send", room, "the first")
    before = ada.values("audit")[-1]["number"] - 1
    arguments = {"audit": ["--follow", "--since", str(before)], "tail": [room, "--since", "start"]}[command]
    with ada.start(command, *arguments) as waiting:
        assert waiting.stdout is not None
        assert waiting.stderr is not None
        assert waiting.stdout.readline()
        waiting.stdout.close()
        try:
            assert waiting.wait(WAIT) == 1
        finally:
            waiting.kill()
        assert waiting.stderr.read() == b""


def test_who_waits_for_news_goes_on_in_a_pipe_that_the_shell_has_open_both_ways(ada: Person, room: str) -> None:
    """Such as `exec 3<>pipe` makes: what was said itself is there to be read, which is no end."""
    os.mkfifo(ada.home / "pipe")
    pipe = os.open(ada.home / "pipe", os.O_RDWR)
    ada.does("send", room, "the first")
    waiting = ada.start("tail", room, "--since", "start", "--count", "2", stdout=pipe)
    try:
        with os.fdopen(pipe, "rb", buffering=0) as reading:
            while not select.select([reading], [], [], 0.1)[0]:
                assert waiting.poll() is None
            ada.does("send", room, "the second")
            ran = ada.end(waiting)
            assert (ran.status, ran.err) == (0, "")
            assert reading.read(4096).count(b"\n") == 2
    finally:
        waiting.kill()


@pytest.mark.parametrize("program", [UNIBUS, DAEMON], ids=lambda program: program.name)
def test_an_interrupt_while_a_program_loads_is_no_traceback(person: Person, program: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", program, "health"],
        cwd=person.home,
        env=person.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as loading:
        assert loading.stderr is not None
        for line in loading.stderr:
            if line.split()[-1] == b"inspect":  # one of the first that click loads
                break
        interrupt(loading)
        said = loading.stderr.read()
        assert loading.wait(WAIT) == -signal.SIGINT
    assert b"Traceback" not in said


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path / "home")


def test_what_a_terminal_cannot_show_is_shown_as_what_it_is(ada: Person, tmp_path: Path) -> None:
    latin = Person(tmp_path / "latin", ada.environment["UNIBUS_URL"])
    latin.environment |= {"UNIBUS_IDENTITY": str(ada.identity), "PYTHONIOENCODING": "latin-1"}
    assert latin.does("room", "create", "☃ snow").startswith("made room \\u2603 snow\n")
    token, *code = latin.run("user", "invite", "--qr").out.splitlines()
    assert token.startswith("unibus join ")
    assert len(code) > 30
    assert {character for line in code for character in line} <= set(" \x1b[]0123456789;m")
    latin.environment["PYTHONIOENCODING"] = "utf-8:strict"
    latin.environment["UNIBUS_IDENTITY"] = "q"
    assert "q\\udcff.nk" in latin.does("--identity", b"q\xff.nk", "identity", "new")


def test_columns_stand_below_each_other_whatever_is_in_them() -> None:
    rows = columns(["name", "id"], [["漢字", "1"], ["e\u0301t\u00e9", "2"], ["plain", "3"]])
    assert rows == ["name   id", "漢字   1", "e\u0301t\u00e9    2", "plain  3"]


def test_a_file_whose_name_members_cannot_be_shown_is_given_another(ada: Person, room: str) -> None:
    ada.write("a\x1bb", "x")
    assert ada.refused("blob", "put", room, "a\x1bb").endswith(": give another with --name")
    assert ada.does("blob", "put", room, "a\x1bb", "--name", "ab").startswith("stored ab\n")


def test_an_invite_that_is_none_is_not_withdrawn(ada: Person) -> None:
    assert ada.refused("user", "withdraw", "nonsense") == "there is no invite 'nonsense': see unibus user invites"


def test_an_address_of_the_wrong_scheme_or_host_is_told(town: Town, ada: Person) -> None:
    url = town.url.replace("http://", "https://")
    said = ada.refused("--url", url, "health")
    assert said == f"cannot speak tls with {url}: wrong version number; if it has none, its address begins with http://"
    said = ada.refused("--url", "http://no.such.host.invalid:1", "health")
    assert said.startswith("cannot reach http://no.such.host.invalid:1: ")
    assert "Errno" not in said
    assert said == said.lower()


def test_a_card_and_a_seed_are_json_too(ada: Person) -> None:
    assert ada.values("identity", "show", "--card") == [{"card": ada.does("identity", "show", "--card").strip()}]
    assert ada.values("identity", "show", "--seed") == [{"seed": ada.identity.read_text().strip()}]
