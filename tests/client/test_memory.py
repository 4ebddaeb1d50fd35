"""What a client remembers: merged, written in one piece, and never made up from a damaged file."""

import fcntl
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from unibus.client.memory import Memory
from unibus.crypto.encoding import b64u
from unibus.crypto.heads import EMPTY, Head
from unibus.errors import KeyCustody, WrongBus

BUS, OTHER = b64u(b"\1" * 32), b64u(b"\2" * 32)


def head(sequence: int, mark: int = 7) -> Head:
    return Head(sequence, bytes([mark]) * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "on" / "demand" / "state.json"


def remembering(path: Path, **heads: Head) -> Memory:
    memory = Memory(path)
    memory.pin_bus(BUS)
    for log, known in heads.items():
        memory.remember(log, known)
    memory.save()
    return memory


def test_what_was_remembered_is_there_the_next_time(path: Path) -> None:
    remembering(path, directory=head(3))
    again = Memory(path)
    assert (again.bus, again.heads) == (BUS, {"directory": head(3)})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_the_newest_head_stays(path: Path) -> None:
    memory = remembering(path, directory=head(3))
    memory.remember("directory", head(2, 9))
    memory.remember("directory", head(3, 9))
    memory.save()
    assert Memory(path).heads == {"directory": head(3)}


def test_an_empty_log_is_nothing_to_remember(path: Path) -> None:
    remembering(path, directory=EMPTY)
    assert Memory(path).heads == {}


def test_a_bus_is_new_once_and_another_one_is_refused(path: Path) -> None:
    memory = Memory(path)
    assert memory.pin_bus(BUS) is True
    assert memory.pin_bus(BUS) is False
    memory.save()
    assert Memory(path).pin_bus(BUS) is False
    with pytest.raises(WrongBus, match="check the address"):
        Memory(path).pin_bus(OTHER)


def test_two_processes_of_one_identity_keep_what_each_has_seen(path: Path) -> None:
    one, two = remembering(path), Memory(path)
    one.remember("directory", head(5))
    one.remember("room/a", head(1))
    one.save()
    two.remember("directory", head(4))
    two.remember("room/b", head(2))
    two.save()
    assert Memory(path).heads == {"directory": head(5), "room/a": head(1), "room/b": head(2)}


def test_a_file_that_became_another_buss_is_not_overwritten(path: Path) -> None:
    mine, theirs = Memory(path), Memory(path)
    mine.pin_bus(BUS)
    theirs.pin_bus(OTHER)
    theirs.save()
    with pytest.raises(WrongBus, match="another bus"):
        mine.save()
    assert Memory(path).bus == OTHER


def test_without_a_path_nothing_is_written(tmp_path: Path) -> None:
    memory = Memory()
    memory.pin_bus(BUS)
    memory.remember("directory", head(1))
    memory.save()
    assert memory.heads == {"directory": head(1)}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"version":2,"bus":"x","heads":{}}',
        b'{"version":1,"bus":7,"heads":{}}',
        b'{"version":1,"bus":"x","heads":[]}',
        b'{"version":1,"bus":"x","bus":"y","heads":{}}',
        b'{"version":1,"bus":"x","heads":{"directory":[1]}}',
        b'{"version":1,"bus":"x","heads":{"directory":["one","' + b64u(bytes(32)).encode() + b'"]}}',
        b'{"version":1,"bus":"x","heads":{"directory":[1,"short"]}}',
        b'{"version":1,"bus":"x","heads":{"directory":[1,7]}}',
        b'{"version":1,"bus":"x","heads":{"directory":null}}',
        b'{"version":1,"bus":"x","heads":{},"seen":[]}',
        b'{"version":1,"bus":"x","heads":{},"seen":{"room":null}}',
    ],
)
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(KeyCustody, match="move it away"):
        Memory(path)
    assert path.read_bytes() == content


def test_a_directory_in_the_files_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyCustody, match="cannot read"):
        Memory(tmp_path)


def test_what_cannot_be_written_is_named_and_leaves_no_half(tmp_path: Path) -> None:
    path = tmp_path / "file" / "state.json"
    memory = Memory(path)
    memory.pin_bus(BUS)
    path.parent.write_text("a file where a directory should be")
    with pytest.raises(KeyCustody, match=r"cannot (read|write)"):
        memory.save()
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_state_and_no_scrap_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    memory = remembering(path, directory=head(1))
    before = path.read_bytes()
    memory.remember("directory", head(2))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(KeyCustody, match="cannot write"):
            memory.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


PROCESS = """
import sys
from pathlib import Path
from unibus.client.memory import Memory
from unibus.crypto.heads import Head

path, name = Path(sys.argv[1]), sys.argv[2]
memory = Memory(path)
memory.pin_bus(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(1, 101):
    memory.remember(f"room/{name}{number}", Head(number, bytes(32)))
    memory.seen(name).last = number
    memory.shown()
    memory.save()
"""


def test_processes_that_write_at_once_lose_nothing_of_each_others(path: Path) -> None:
    names = ("a", "b", "c")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(path), name, BUS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in names
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        process.communicate(b"go\n", timeout=30)
        assert process.returncode == 0
    found = Memory(path)
    assert {f"room/{name}{number}" for name in names for number in range(1, 101)} == set(found.heads)
    assert [found.seen(name).last for name in names] == [100, 100, 100]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_who_holds_the_lock_for_ever_is_named(path: Path) -> None:
    remembering(path, directory=head(1))
    memory = Memory(path, patience=0.05)
    memory.remember("directory", head(2))
    holder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(KeyCustody, match="another process holds"):
            memory.save()
    finally:
        os.close(holder)
    memory.save()
    assert Memory(path).heads == {"directory": head(2)}


def test_what_was_shown_is_there_the_next_time(path: Path) -> None:
    memory = remembering(path)
    memory.seen("a" * 26).last = 7
    memory.shown()
    memory.save()
    assert Memory(path).seen("a" * 26).last == 7
