"""What must never be committed cannot be by accident: git is asked, and tries."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.example import NAMES, ROOT, place, random_bytes
from unibus.cluster.certs import How
from unibus.cluster.material import make_certs, make_settings

PUBLIC = {".gitignore", "deploy/cluster/nodes.env"}


def git(at: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    own = {"HOME": str(at), "PATH": os.defpath, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(["git", *arguments], cwd=at, env=own, capture_output=True, text=True, check=False)  # noqa: S607 - the git of the path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with this one's ignored names, in which all material was made."""
    assert git(tmp_path, "init", "--quiet").returncode == 0
    shutil.copy(ROOT / ".gitignore", tmp_path)
    base = place(tmp_path / "deploy")
    make_certs(base, How.KEEP, now=1.8e9, random=random_bytes())
    make_settings(base, new_secret=False, random=random_bytes())
    (base / "cluster" / "build" / "bundle").mkdir(parents=True)
    (base / "cluster" / "build" / "bundle" / "SHA256SUMS").touch()
    return tmp_path


def test_adding_everything_adds_no_material(clone: Path) -> None:
    added = git(clone, "add", "--all")
    assert added.returncode == 0, added.stderr
    assert set(git(clone, "diff", "--cached", "--name-only").stdout.splitlines()) == PUBLIC


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("out/", "deploy/cluster/out/homer/cluster.env"),
        ("build/", "deploy/cluster/build/bundle/SHA256SUMS"),
        ("secrets/", "deploy/cluster/secrets/cluster.pass"),
        ("*.key", "deploy/cluster/copied.key"),
        ("deploy/tls/", "deploy/tls/ca.crt"),
    ],
)
def test_each_line_keeps_something_out_that_would_be_committed_without_it(clone: Path, line: str, name: str) -> None:
    (clone / name).touch()
    assert git(clone, "add", name).returncode == 1
    ignored = clone / ".gitignore"
    lines = ignored.read_text().splitlines()
    lines.remove(line)
    ignored.write_text("\n".join(lines) + "\n")
    assert git(clone, "add", name).returncode == 0
    who = ("-c", "user.name=ada", "-c", "user.email=ada@bus.example")
    assert git(clone, *who, "commit", "--quiet", "-m", "a mistake").returncode == 0
    assert git(clone, "ls-files").stdout.splitlines() == [name]


def test_adding_a_secret_by_its_name_is_refused(clone: Path) -> None:
    named = [
        "deploy/tls/ca.key",
        "deploy/cluster/secrets/route-ca.key",
        "deploy/cluster/secrets/cluster.pass",
        *(f"deploy/cluster/out/{name}/{kind}.key" for name in NAMES for kind in ("route", "server")),
    ]
    for name in named:
        assert (clone / name).exists()
        assert git(clone, "add", name).returncode == 1
        assert git(clone, "check-ignore", "--quiet", name).returncode == 0
