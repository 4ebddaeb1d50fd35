"""The command line as such: help, usage errors, exit statuses; and the demo."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.cli.commands import DAEMON, Person
from unibus.cli.main import PROGRAM, group


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path / "home")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["-h"], ["room", "--help"], ["user", "--help"], ["identity", "--help"], ["send", "--help"]],
)
def test_help_is_there_for_everything(person: Person, arguments: list[str]) -> None:
    begun = time.perf_counter()
    out = person.does(*arguments)
    print(f"{' '.join(arguments)}: {(time.perf_counter() - begun) * 1000:.0f} ms")  # noqa: T201 - to be looked at
    assert out.startswith("Usage: unibus ")


def test_every_command_has_its_line_in_the_help(person: Person) -> None:
    out = person.does("--help")
    for name in ("demo", "health", "identity", "init", "join", "room", "send", "tail", "user"):
        assert f"\n  {name} " in out
        assert person.does(name, "--help").startswith(f"Usage: unibus {name}")


@pytest.mark.parametrize("group", [[], ["blob"], ["cluster"], ["identity"], ["room"], ["user"]])
def test_every_line_of_a_group_is_whole_and_in_lower_case(person: Person, group: list[str]) -> None:
    lines = person.does(*group, "--help").partition("\nCommands:\n")[2].splitlines()
    names = [line.split()[0] for line in lines]
    assert names == sorted(names)
    for name, line in zip(names, lines, strict=True):
        short = line.removeprefix(f"  {name}").strip()
        assert short[0].islower(), line
        assert not short.endswith((".", "…")), line


def _with_examples(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _with_examples(found, *path, name)
    elif command.epilog:
        yield path


@pytest.mark.parametrize("path", list(_with_examples(group)), ids=" ".join)
def test_examples_are_of_their_command_and_are_understood(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(group, [*path, "--help"], prog_name=PROGRAM, terminal_width=100).output
    lines = told.partition("For example:\n")[2].replace("\\\n", "").splitlines()
    assert lines
    for line in lines:
        (typed,) = (part for part in line.strip().split(" | ") if part.startswith(PROGRAM))
        assert _understood(shlex.split(typed.partition(" > ")[0])[1:]) == path, line


def _understood(arguments: list[str]) -> tuple[str, ...]:
    """Which command is meant. Raises click's errors, but for files that are not there."""
    command: click.Command = group
    path: list[str] = []
    while isinstance(command, click.Group):
        context = click.Context(command)
        _, (name, *arguments), _ = command.make_parser(context).parse_args(arguments)
        found = command.get_command(context, name)
        assert found is not None, name
        path.append(name)
        command = found
    try:
        command.make_context(path[-1], arguments)
    except click.BadParameter as error:
        if "does not exist" not in error.message:
            raise
    return tuple(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["room", "nonsense"],
        ["send"],
        ["tail", "ops", "--count", "0"],
        ["user", "add", "x"],
        ["user", "ad"],
    ],
)
def test_wrong_usage_is_one_line_and_status_2(person: Person, arguments: list[str]) -> None:
    said = person.refused(*arguments, status=2)
    assert said[0].islower()
    assert said.endswith(" --help")
    assert "?:" not in said


@pytest.mark.parametrize("option", ["--json", "--url", "--identity", "--ca", "--client-cert"])
def test_an_option_of_all_commands_is_shown_its_place(person: Person, option: str) -> None:
    told = json.loads(person.run("room", "list", option).err) if option == "--json" else None
    said = told["message"] if told else person.refused("room", "list", option, status=2)
    assert said == f"{option} goes before the command: unibus {option} … room list"


@pytest.mark.parametrize(
    ("arguments", "status", "code", "message"),
    [
        (["nonsense"], 2, "usage", "no such command 'nonsense': see unibus --help"),
        (["--nonsense"], 2, "usage", "no such option '--nonsense': see unibus --help"),
        (["room"], 2, "usage", "missing command: see unibus room --help"),
        (["room", "list"], 1, "key-custody", "there is no identity at "),
        (["--url", "http://127.0.0.1:1", "health"], 1, "unreachable", "cannot reach http://127.0.0.1:1: "),
    ],
)
def test_errors_are_json_too_when_that_is_asked_for(
    person: Person, arguments: list[str], status: int, code: str, message: str
) -> None:
    ran = person.run("--json", *arguments)
    assert (ran.status, ran.out) == (status, "")
    (line,) = ran.err.splitlines()
    told = json.loads(line)
    assert set(told) == {"error", "message"}
    assert told["error"] == code
    assert told["message"].startswith(message)


def test_what_stands_after_two_dashes_asks_for_nothing(person: Person) -> None:
    assert person.refused("send", "--", "ops", "--json").startswith("there is no identity at ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nonsense"], "no such option '--nonsense'. Did you mean '--node-name'? see unibus-membershipd --help"),
        (
            ["--store", "x"],
            "invalid value for '--store': 'x' is not one of 'sqlite', 'kv': see unibus-membershipd --help",
        ),
        (["--store"], "option '--store' requires an argument"),
        (["extra"], "got unexpected extra argument (extra): see unibus-membershipd --help"),
    ],
)
def test_wrong_usage_of_the_daemon_is_told_in_the_same_way(person: Person, arguments: list[str], said: str) -> None:
    for program in ([DAEMON], [sys.executable, "-m", "unibus.daemon"]):
        ran = subprocess.run(
            [*program, *arguments], cwd=person.home, env=person.environment, capture_output=True, text=True, check=False
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", f"unibus-membershipd: {said}\n")


def test_no_command_shows_the_help(person: Person) -> None:
    ran = person.run()
    assert ran.status == 2
    assert ran.err.startswith("Usage: unibus ")


def test_the_version_is_told(person: Person) -> None:
    assert person.does("--version").startswith("unibus, version ")


def test_the_demo_holds_and_leaves_nothing(person: Person, tmp_path: Path) -> None:
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    person.environment["TMPDIR"] = str(tmp)
    steps = person.values("demo")
    assert all(step["held"] for step in steps)
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    assert steps[-1]["text"] == "the daemon and its nats-server have ended"
    assert list(tmp.iterdir()) == []
    assert list(person.home.iterdir()) == []
