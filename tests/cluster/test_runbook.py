"""Every command of the runbook is one that a test types; no command stands where that would not be seen."""

import ast
import re
from pathlib import Path

from tests.cluster.example import ROOT
from tests.cluster.runbook import commands

TEXT = (ROOT / "deploy/cluster/README.md").read_text()
TYPED = Path(__file__).with_name("test_runbook_hosts.py")
SUITE = "make chaos"


def literals(path: Path) -> dict[str, set[str]]:
    """The texts in a test module that stand in each `with section(operator, TITLE)`."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.With(items=[ast.withitem(ast.Call(ast.Name("section"), [_, ast.Constant(str(title))]))]):
                found[title] = {text for one in ast.walk(node) if isinstance(text := getattr(one, "value", None), str)}
    return found


def test_every_section_is_typed_and_every_command_in_it() -> None:
    typed = literals(TYPED)
    assert set(typed) == set(commands(TEXT))
    for title, wanted in commands(TEXT).items():
        assert {part for command in wanted for part in command.split(" | ")} <= typed[title], title


def test_commands_are_in_fences() -> None:
    prose = re.sub(r"^```sh\n.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert "```" not in prose
    spans = re.findall(r"`([^`]+)`", prose)
    programs = r"(\.venv/bin/|deploy/cluster/[a-z-]+ |(make|ssh|sudo|systemctl|git|rsync|unibus [a-z]) ?)"
    assert {span for span in spans if " " in span and re.match(programs, span)} == {SUITE}
