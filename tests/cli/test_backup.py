"""`unibus backup` and `unibus restore` as an operator types them, also where the disk is full."""

import json
import os
import resource
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.commands import UNIBUS, Person, Town
from tests.cli.conftest import Newcomer


def names(directory: Path) -> list[str]:
    """What stands in a directory."""
    return sorted(path.name for path in directory.iterdir())


def with_a_disk_of(size: int, person: Person, *arguments: str) -> str:
    """What a command says that can write no file of more than `size` bytes, and so has to fail."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    ran = subprocess.run(
        [UNIBUS, *arguments],
        cwd=person.home,
        env=person.environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard)),
    )
    assert (ran.returncode, ran.stdout) == (1, ""), ran
    (line,) = ran.stderr.splitlines()
    return line


@pytest.fixture
def filled(ada: Person, room: str) -> None:
    """A bus with a blob of a megabyte."""
    ada.write("noise", os.urandom(2**20))
    ada.does("blob", "put", room, "noise")


@pytest.mark.usefixtures("filled")
def test_a_bus_goes_into_a_file_and_out_again(ada: Person, tmp_path: Path) -> None:
    (facts,) = ada.values("backup", "bus.backup")
    assert facts["bytes"] == (ada.home / "bus.backup").stat().st_size > 2**20
    assert (ada.home / "bus.backup").stat().st_mode & 0o777 == 0o600
    assert "already" in ada.refused("backup", "bus.backup")
    said = ada.does("restore", "bus.backup", "--data-dir", "again").splitlines()
    assert said[0] == f"restored bus {facts['bus']}"
    assert "by ada" in said[1]
    assert "unibus-membershipd --data-dir again" in said[-1]
    assert names(ada.home / "again") == ["blobs", "lock", "nats", "unibus.sqlite3"]
    assert "holds a bus already" in ada.refused("restore", "bus.backup", "--data-dir", "again")
    (again,) = ada.values("restore", "bus.backup", "--data-dir", str(tmp_path / "third"))
    assert (again["bus"], again["handle"]) == (facts["bus"], "ada")
    assert "--data-dir" in ada.refused("restore", "bus.backup", status=2)


def test_only_admins_make_one(newcomer: Newcomer, room: str) -> None:
    bob = newcomer("bob-of-" + room)
    assert "only an admin" in bob.refused("backup", "bus.backup")
    assert not [name for name in names(bob.home) if "bus.backup" in name]


@pytest.mark.usefixtures("filled")
def test_what_is_no_backup_is_refused_in_a_line(ada: Person) -> None:
    ada.does("backup", "true.backup")
    true = (ada.home / "true.backup").read_bytes()
    ada.write("cut.backup", true[:-5000])
    assert "cut.backup is not a backup to restore: it is cut short" in ada.refused(
        "restore", "cut.backup", "--data-dir", "nowhere"
    )
    assert "nowhere" not in names(ada.home)
    missing = ada.refused("restore", "no.backup", "--data-dir", "nowhere", status=2)
    assert "no.backup" in missing


@pytest.mark.usefixtures("filled")
def test_a_restore_that_was_killed_can_be_done_again(ada: Person) -> None:
    ada.does("backup", "killed.backup")
    killed = ada.start("restore", "killed.backup", "--data-dir", "killed")
    while not (ada.home / "killed" / "restoring" / "blobs").exists():
        assert killed.poll() is None
        time.sleep(0.001)
    killed.kill()
    ada.end(killed)
    assert set(names(ada.home / "killed")) <= {"lock", "restoring"}
    ada.does("restore", "killed.backup", "--data-dir", "killed")
    assert names(ada.home / "killed") == ["blobs", "lock", "nats", "unibus.sqlite3"]


@pytest.mark.usefixtures("filled")
def test_a_full_disk_is_named_and_leaves_nothing(town: Town, ada: Person) -> None:
    line = with_a_disk_of(500_000, ada, "backup", "full.backup")
    assert line == "unibus: cannot write full.backup: file too large"
    assert not [name for name in names(ada.home) if "full" in name]
    assert "backup" not in names(town.data_dir)
    ada.does("backup", "whole.backup")
    line = with_a_disk_of(500_000, ada, "restore", "whole.backup", "--data-dir", "full")
    assert "the disk is full" in line
    assert "full" not in names(ada.home)


def test_a_full_disk_of_the_node_is_named_and_leaves_nothing(town: Town, ada: Person, room: str) -> None:
    lines = "\n".join(json.dumps(os.urandom(30_000).hex()) for _ in range(100))
    ada.does("send", room, stdin=lines.encode())
    limits = resource.prlimit(town.process.pid, resource.RLIMIT_FSIZE)
    size = sum(path.stat().st_size for path in town.data_dir.glob("unibus.sqlite3*"))
    resource.prlimit(town.process.pid, resource.RLIMIT_FSIZE, (max(size, 2_000_000), limits[1]))
    try:
        said = ada.refused("backup", "full.backup")
    finally:
        resource.prlimit(town.process.pid, resource.RLIMIT_FSIZE, limits)
    assert "the disk is full" in said
    assert "backup" not in names(town.data_dir)
    assert not [name for name in names(ada.home) if "full.backup" in name]
    ada.does("backup", "after.backup")
