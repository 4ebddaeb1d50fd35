"""The data directory before anything is in it: whose it is, and what a crash left of the bootstrap token."""

from pathlib import Path

import pytest

from unibus.daemon.data_dir import TOKEN, DataDir
from unibus.errors import StartRefused


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_directory_that_others_may_write_in_is_refused_and_left_alone(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(StartRefused, match="others may write"), DataDir(path):
        pass
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_one_that_others_may_at_most_read_is_taken(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(mode)
    with DataDir(path) as held:
        assert held.bootstrap_token() == held.bootstrap_token()


def test_a_token_whose_writing_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    with DataDir(tmp_path / "data") as held:
        held.token_path.touch(0o600)
        token = held.bootstrap_token()
        assert len(token) == 43
        assert (tmp_path / "data" / TOKEN).read_text() == token + "\n"
        assert held.token_path.stat().st_mode & 0o777 == 0o600
