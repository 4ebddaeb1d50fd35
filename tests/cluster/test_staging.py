"""Sets of files appear wholly or not at all, and a secret is its owner's alone from the start."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unibus.cluster.staging import NewFile, holding, read, read_secret, settle, write
from unibus.errors import KeyCustody

OLD = {"out/a/x.crt": b"old crt", "out/a/x.key": b"old key", "tls/ca.crt": b"old ca"}
NEW = {
    name: NewFile(content.replace(b"old", b"new"), secret=name.endswith(".key"))
    for name, content in {**OLD, "secrets/new.key": b"old"}.items()
}
WRITER = """
import itertools, pathlib, sys
from unibus.cluster.staging import NewFile, holding, write
base = pathlib.Path(sys.argv[1])
for number in itertools.count():
    with holding(base, base / "secrets"):
        write(base, base / "secrets", {f"out/{n}": NewFile(b"%d" % number, secret=True) for n in range(20)})
    if number == 0:
        print("begun", flush=True)
"""


def contents(base: Path, names: dict[str, NewFile] | dict[str, bytes]) -> dict[str, bytes | None]:
    return {name: read(base / name) for name in names}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name, content in OLD.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_a_set_gets_into_place_with_its_rights_whatever_the_umask(base: Path) -> None:
    old = os.umask(0o777)
    try:
        os.umask(0)
        with holding(base, base / "secrets"):
            write(base, base / "secrets", NEW)
    finally:
        os.umask(old)
    assert contents(base, NEW) == {name: file.content for name, file in NEW.items()}
    modes = {name: stat.S_IMODE((base / name).stat().st_mode) for name in NEW}
    assert modes == {name: 0o600 if file.secret else 0o644 for name, file in NEW.items()}
    assert stat.S_IMODE((base / "secrets").stat().st_mode) == 0o700
    assert sorted(path.name for path in (base / "secrets").iterdir()) == [".lock", "new.key"]


def test_a_crash_before_all_of_a_set_is_there_leaves_the_old_one(base: Path) -> None:
    with holding(base, base / "secrets"):
        pass
    staged = base / "secrets" / ".staged" / "out" / "a"
    staged.mkdir(parents=True)
    (staged / "x.crt").write_bytes(b"half")
    with holding(base, base / "secrets"):
        assert contents(base, OLD) == OLD
    assert not (base / "secrets" / ".staged").exists()


@pytest.mark.parametrize("moved", range(len(NEW) + 1))
def test_a_crash_after_any_number_of_moves_is_finished_by_the_next(base: Path, moved: int) -> None:
    ready = base / "secrets" / ".ready"
    for number, (name, file) in enumerate(sorted(NEW.items())):
        target = (base if number < moved else ready) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
    ready.mkdir(parents=True, exist_ok=True)
    settle(base, base / "secrets")
    assert contents(base, NEW) == {name: file.content for name, file in NEW.items()}
    assert not ready.exists()


def test_a_killed_process_leaves_no_mixture(base: Path) -> None:
    for pause in (0.0, 0.003, 0.007, 0.011):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(base)], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            time.sleep(pause)  # where the cut falls is chance; that is the test
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        with holding(base, base / "secrets"):
            found = {read_secret(base / f"out/{number}") for number in range(20)}
        assert len(found) == 1
        assert None not in found


def test_a_disk_that_is_full_leaves_the_old_set(base: Path) -> None:
    # A name that no file system takes stands for any error in the middle of writing.
    broken = {**NEW, "z" * 300: NewFile(b"", secret=False)}
    with holding(base, base / "secrets"):
        with pytest.raises(OSError, match="too long"):
            write(base, base / "secrets", broken)
        assert contents(base, OLD) == OLD
    assert [path.name for path in (base / "secrets").iterdir()] == [".lock"]


def test_two_at_once_is_one_too_many(base: Path) -> None:
    with (
        holding(base, base / "secrets"),
        pytest.raises(KeyCustody, match="another process"),
        holding(base, base / "secrets"),
    ):
        pass


def test_copies_that_were_being_sent_when_a_process_died_are_removed(base: Path) -> None:
    left = base / "secrets" / "sending-x"
    left.mkdir(parents=True)
    (base / "secrets").chmod(0o700)
    (left / "route.key").write_bytes(b"secret")
    with holding(base, base / "secrets"):
        assert not left.exists()


def test_a_directory_for_secrets_that_others_can_enter_is_refused(base: Path) -> None:
    (base / "secrets").mkdir(mode=0o755)
    with pytest.raises(KeyCustody, match="chmod 700"), holding(base, base / "secrets"):
        pass


def test_a_directory_for_secrets_that_is_a_link_is_refused(base: Path) -> None:
    (base / "elsewhere").mkdir(mode=0o700)
    (base / "secrets").symlink_to(base / "elsewhere")
    with pytest.raises(KeyCustody, match="of yours alone"), holding(base, base / "secrets"):
        pass


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_secret_that_others_can_read_is_not_used(base: Path, mode: int) -> None:
    (base / "x.key").touch()
    (base / "x.key").chmod(mode)
    with pytest.raises(KeyCustody, match="chmod 600"):
        read_secret(base / "x.key")


def test_a_secret_is_not_read_through_a_link_nor_out_of_a_pipe(base: Path) -> None:
    (base / "real.key").touch(0o600)
    (base / "x.key").symlink_to(base / "real.key")
    with pytest.raises(OSError, match="symbolic links"):
        read_secret(base / "x.key")
    os.mkfifo(base / "pipe.key", 0o600)
    with pytest.raises(KeyCustody, match="has to be a file"):
        read_secret(base / "pipe.key")


def test_what_is_not_there_is_nothing(base: Path) -> None:
    assert read(base / "none") is None
    assert read_secret(base / "none") is None
