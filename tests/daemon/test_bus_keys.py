"""The bus's keys on disk: made once, for one pair of eyes, and never shown."""

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from unibus.bus.keys import BusKeys
from unibus.crypto.nkeys import encode_seed
from unibus.daemon.bus_keys import NAME, bus_keys
from unibus.errors import KeyCustody


def publics(keys: BusKeys) -> list[str]:
    return [keys.issuer.public, keys.auth.public, keys.core.public, keys.system.public, keys.curve_public]


def test_they_are_made_once_and_are_private(tmp_path: Path) -> None:
    made = bus_keys(tmp_path, os.urandom)
    assert publics(bus_keys(tmp_path, os.urandom)) == publics(made)
    assert len(set(publics(made))) == 5
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_a_wide_umask_does_not_open_them(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        bus_keys(tmp_path, os.urandom)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_who_makes_them_at_the_same_moment_gets_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = {tuple(publics(keys)) for keys in pool.map(lambda _: bus_keys(tmp_path, os.urandom), range(64))}
    assert len(found) == 1
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666])
def test_what_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    bus_keys(tmp_path, os.urandom)
    (tmp_path / NAME).chmod(mode)
    with pytest.raises(KeyCustody, match="chmod 600"):
        bus_keys(tmp_path, os.urandom)


def _link(path: Path) -> None:
    bus_keys(path.parent.parent, os.urandom)
    path.symlink_to(path.parent.parent / NAME)


@pytest.mark.parametrize(
    ("put", "told"),
    [
        (_link, "cannot keep"),
        (lambda path: path.mkdir(), "cannot keep"),
        (lambda path: os.mkfifo(path, 0o600), "not a file of yours"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path: Path, put: Callable[[Path], object], told: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    put(home / NAME)
    with pytest.raises(KeyCustody, match=told):
        bus_keys(home, os.urandom)


def test_what_does_not_hold_keys_is_refused_without_being_shown(tmp_path: Path) -> None:
    good = bus_keys(tmp_path, os.urandom)
    path = tmp_path / NAME
    content = path.read_text()
    seed = encode_seed("U", good.core.seed)
    for wrong in (
        "",
        "{}",
        "[]",
        content[:-20],
        content.replace(seed, seed[:-1] + ("A" if seed[-1] == "B" else "B")),
        content.replace("core", "xore"),
    ):
        path.write_text(wrong)
        with pytest.raises(KeyCustody, match="does not hold a bus's keys") as told:
            bus_keys(tmp_path, os.urandom)
        assert seed[2:20] not in repr(told.value)
        assert told.value.__cause__ is None


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyCustody, match="no such file"):
        bus_keys(tmp_path / "nowhere", os.urandom)
