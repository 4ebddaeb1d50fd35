"""docs/library.md, done as it says: its commands typed, its programs run as they stand there, against a real daemon.

Only the daemon's address is put in place of the one that is written there.
"""

import inspect
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import unibus
from tests.cli.commands import WAIT, Person, Town

GUIDE = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
FOUND = re.findall(r'^```python\n("""(\w+\.py): .*?)^```$', GUIDE, re.MULTILINE | re.DOTALL)
PROGRAMS = {name: text for text, name in FOUND}
COMMANDS = [line for line in GUIDE.splitlines() if line.startswith("unibus --identity")]


class Programmer(Person):
    """Somebody with a daemon in their home, and the guide's programs in files."""

    def __init__(self, home: Path, town: Town) -> None:
        super().__init__(home, town.url)
        for name, text in PROGRAMS.items():
            self.write(name, text.replace("http://127.0.0.1:8470", town.url))

    def launch(self, name: str) -> subprocess.Popen[bytes]:
        """Begin a program."""
        return subprocess.Popen(
            [sys.executable, name],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def prints(self, name: str) -> list[str]:
        """The lines of a program that ends by itself and has nothing to remark."""
        ran = self.end(self.launch(name))
        assert (ran.status, ran.err) == (0, ""), ran
        return ran.out.splitlines()

    @contextmanager
    def running(self, name: str) -> Iterator[Iterator[bytes]]:
        """A program without end, and the lines it prints; ended by ctrl-c, without a word."""
        process = self.launch(name)
        assert process.stdout is not None
        try:
            yield iter(process.stdout)
            process.send_signal(signal.SIGINT)
            ran = self.end(process)
            assert (ran.status, ran.err) == (0, ""), ran
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def programmer(tmp_path: Path) -> Iterator[Programmer]:
    """At a new daemon, where the guide's commands were typed."""
    town = Town(tmp_path)
    try:
        programmer = Programmer(tmp_path, town)
        for command in COMMANDS:
            words = shlex.split(command)
            to = programmer.home / words[-1] if ">" in words else None
            said = programmer.does(*(words[1:-2] if to else words[1:]))
            if to:
                to.write_text(said)
        yield programmer
    finally:
        assert town.end() == 0


def said(line: bytes) -> str:
    """Who said what, of a line that begins with the position."""
    position, _, rest = line.decode().rstrip("\n").partition(" ")
    unibus.parse_position(position)
    return rest


def test_programs_of_messages(programmer: Programmer) -> None:
    alice = ("--identity", "alice.nk", "send", "ops")
    with programmer.running("hello.py") as heard:
        assert said(next(heard)) == "alice good morning"
        with programmer.running("echo.py"):
            programmer.does(*alice, "echo one")
            assert said(next(heard)) == "alice echo one"
            assert said(next(heard)) == "bob one"
        programmer.does(*alice, "echo two")
        assert said(next(heard)) == "alice echo two"
        with programmer.running("echo.py"):
            assert said(next(heard)) == "bob two"  # and "one" not again
            programmer.does(*alice, "that is all")
            assert said(next(heard)) == "alice that is all"
        (line,) = programmer.prints("readings.py")
        assert line.startswith("all stored, the last one at ")
        assert [said(next(heard)) for _ in range(10_000)] == [f"bob reading {number}" for number in range(10_000)]


def test_programs_of_questions(programmer: Programmer) -> None:
    off = ["the thermometer is off"] * 2
    assert programmer.prints("ask.py") == off
    with programmer.running("thermometer.py"):
        until = time.monotonic() + WAIT
        while (answers := programmer.prints("ask.py")) == off:  # it says to nobody when it begins to listen
            assert time.monotonic() < until
        assert answers == ["it is 21.5", "bob declines: a thermometer knows one thing"]
    assert programmer.prints("ask.py") == off


def test_programs_of_people_and_files(programmer: Programmer) -> None:
    assert programmer.prints("people.py") == ["{'alice': 'owner', 'dan': 'member'}", "{'alice': 'owner'}"]
    *progress, found = programmer.prints("files.py")
    assert found == "report.txt 12000 alice"
    assert progress
    assert (programmer.home / "copy.txt").read_text() == "all is well\n" * 1000


def test_all_programs_are_run_here() -> None:
    run = re.findall(r'"(\w+\.py)"', inspect.getsource(sys.modules[__name__]))
    assert sorted(PROGRAMS) == sorted(set(run))
    assert GUIDE.count("```python\n") == len(PROGRAMS)


def test_what_is_told_of_is_there_and_what_is_there_is_told_of() -> None:
    assert [name for name in unibus.__all__ if not re.search(rf"\b{name}\b", GUIDE)] == []
    told = set(re.findall(r"\bunibus\.(\w+)", GUIDE)) - {"nk", "client"}  # a file, a logger
    assert told <= set(unibus.__all__)
    for kind, row in ((unibus.Bus, "Bus"), (unibus.Room, "Room")):
        table = GUIDE.partition(f"| of a `{row}` | |\n")[2].partition("\n\n")[0]
        methods = {
            name for cell in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)", cell)
        }
        assert methods
        assert [name for name in methods if not hasattr(kind, name)] == []


def test_errors_told_of_are_errors_of_that_family() -> None:
    table = GUIDE.partition("| | what it says | what to do |\n")[2].partition("\n\n")[0]
    *others, untrusted = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines()[1:]]
    assert [
        name for row in others for name in row if issubclass(getattr(unibus.errors, name), unibus.errors.Untrusted)
    ] == []
    assert [name for name in untrusted if not issubclass(getattr(unibus.errors, name), unibus.errors.Untrusted)] == []
