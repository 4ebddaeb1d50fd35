"""When what was read is written: at once after a rest, once in a while under load, and always in the end."""

import asyncio
from pathlib import Path

import pytest

from unibus.client.keeping import Keeper
from unibus.client.memory import Memory
from unibus.crypto.encoding import b64u
from unibus.errors import KeyCustody

ROOM = "a" * 26


def keeping(path: Path, pause: float) -> Keeper:
    memory = Memory(path)
    memory.pin_bus(b64u(bytes(32)))
    return Keeper(memory, pause)


def show(keeper: Keeper, last: int) -> None:
    keeper.memory.seen(ROOM).last = last
    keeper.shown()


def written(path: Path) -> int:
    return Memory(path).seen(ROOM).last


async def test_the_first_is_written_before_anybody_acts_on_it_and_the_rest_in_the_end(tmp_path: Path) -> None:
    keeper = keeping(path := tmp_path / "state.json", 60)
    show(keeper, 1)
    assert written(path) == 1
    show(keeper, 2)
    show(keeper, 3)
    assert written(path) == 1
    keeper.close()
    assert written(path) == 3
    keeper.close()


async def test_nobody_has_to_ask_for_what_waits_to_be_written(tmp_path: Path) -> None:
    keeper = keeping(path := tmp_path / "state.json", 0.05)
    show(keeper, 1)
    show(keeper, 2)
    await asyncio.sleep(0.2)  # what is tested is that time passes
    assert written(path) == 2
    show(keeper, 3)
    assert written(path) == 3


async def test_what_cannot_be_written_is_named_to_who_reads_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = keeping(tmp_path / "home" / "state.json", 0.05)
    show(keeper, 1)
    (tmp_path / "home" / "state.json").unlink()
    (tmp_path / "home").rmdir()
    (tmp_path / "home").write_text("a file where a directory was")
    show(keeper, 2)
    keeper.close()
    assert "not remembered" in caplog.text
    await asyncio.sleep(0.1)  # the pause
    with pytest.raises(KeyCustody, match="cannot write"):
        show(keeper, 3)
