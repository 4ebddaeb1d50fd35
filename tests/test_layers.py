"""The design's layers as a machine sees them: who imports whom, who reads the environment, how long a file is.

The import rules themselves stand in `.importlinter`. That they bite is shown on a copy with one wrong import.
"""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "unibus"
LINT = Path(sys.executable).parent / "lint-imports"
LONGEST = 500
ENVIRONMENT = SOURCE / "daemon" / "options.py"


def lint(source: Path) -> subprocess.CompletedProcess[str]:
    """Check the package below `source`, which is the only place Python is told to look for it."""
    command: list[str | Path] = [LINT, "--config", ROOT / ".importlinter", "--no-cache"]
    environment = {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)


def files() -> Iterator[Path]:
    found = [path for top in ("src", "tests") for path in (ROOT / top).rglob("*.py")]
    assert SOURCE / "errors.py" in found
    yield from found


def test_imports_run_downward_only() -> None:
    outcome = lint(ROOT / "src")
    assert outcome.returncode == 0, outcome.stdout


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("model/names.py", "unibus.services.gate"),
        ("crypto/nkeys.py", "unibus.model.names"),
        ("errors.py", "unibus.crypto.heads"),
        ("store/port.py", "unibus.services.ports"),
        ("client/replica.py", "unibus.store.port"),
        ("client/replica.py", "unibus.services.ports"),
        ("http/api.py", "unibus.bus.permissions"),
        ("daemon/options.py", "unibus.client.api"),
        ("services/gate.py", "nats"),
        ("services/books.py", "aiosqlite"),
        ("bus/permissions.py", "aiohttp"),
    ],
)
def test_a_wrong_import_is_noticed(tmp_path: Path, importer: str, imported: str) -> None:
    shutil.copytree(SOURCE, tmp_path / "unibus", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "unibus" / importer).open("a") as file:
        file.write(f"import {imported}\n")
    outcome = lint(tmp_path)
    assert outcome.returncode == 1, outcome.stdout
    assert "BROKEN" in outcome.stdout


def reads_environment(tree: ast.AST) -> bool:
    """Whether the code touches `os.environ` or `os.getenv`, however it was imported."""
    names = {"environ", "environb", "getenv", "getenvb"}
    return any(
        (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and names & {name.name for name in node.names})
        for node in ast.walk(tree)
    )


def test_only_the_options_read_the_environment() -> None:
    readers = [path for path in SOURCE.rglob("*.py") if reads_environment(ast.parse(path.read_text("utf-8")))]
    assert set(readers) <= {ENVIRONMENT}
    assert reads_environment(ast.parse("import os\nx = os.environ['A']"))
    assert reads_environment(ast.parse("from os import getenv as g"))
    assert not reads_environment(ast.parse("import os\nos.getpid()"))


def test_no_file_is_long_and_each_says_what_it_is_for() -> None:
    for path in files():
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= LONGEST, path
        if path.name != "__init__.py" or path.is_relative_to(SOURCE):
            assert ast.get_docstring(ast.parse(text)), f"{path} opens without saying what it is for"
