"""What a client remembers: merged, written in one piece, and never made up from a damaged file."""

import resource
import stat
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
