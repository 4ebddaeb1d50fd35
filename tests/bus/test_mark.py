"""What was in the stream is held against what is in it: a loss is told, what was dropped on purpose is none."""

import os
import signal
from pathlib import Path

import pytest

from tests.bus.stage import ROOM, Logbook, Stage, TablePolicy
from tests.support.processes import nats_servers
from unibus.bus.disk import HALTED, failed_write, shortage
from unibus.bus.mark import MARK, Held, Mark, after
from unibus.bus.options import BusOptions
from unibus.bus.plane import BusPlane
from unibus.errors import StartRefused


@pytest.mark.parametrize(
    ("mark", "held", "lost"),
    [
        (Mark(), Held(0, 0), None),
        (Mark(last=7, messages=7), Held(7, 7), None),
        (Mark(last=7, messages=7), Held(9, 9), None),
        (Mark(last=7, messages=None), Held(7, 2), None),
        (Mark(last=7, messages=7), Held(6, 6), "the store ends at 6, and 7 was stored before"),
        (Mark(last=7, messages=None), Held(0, 0), "the store ends at 0, and 7 was stored before"),
        (Mark(last=7, messages=7), Held(7, 3), "the store has 3, and had 7 before"),
        (Mark(last=2, messages=2, lost="long ago"), Held(9, 9), "long ago"),
    ],
)
def test_less_than_before_is_a_loss_until_somebody_has_dealt_with_it(mark: Mark, held: Held, lost: str | None) -> None:
    found = after(mark, held)
    assert (found.last, found.messages) == (held.last, held.messages)
    assert (found.lost or "").removeprefix("acknowledged messages are lost: ") == (lost or "")


async def test_what_a_room_no_longer_keeps_is_no_loss(stage: Stage, tmp_path: Path) -> None:
    async with stage.connect(stage.member(ROOM)) as a:
        for _ in range(20):
            await a.publish(data=bytes(1000))
        await stage.plane.retain(ROOM, None, 5000)
        (pid,) = nats_servers(tmp_path)
        os.kill(pid, signal.SIGKILL)
        await stage.log.heard("nats-server is back")
    assert stage.plane.status()["loss"] is None


async def test_a_mark_that_cannot_be_read_is_named_and_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / MARK).write_text("{")
    with pytest.raises(StartRefused, match=f"{MARK} cannot be read: remove it"):
        await BusPlane(BusOptions(tmp_path, port=0), TablePolicy(), Logbook().logger).start()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("Filestore [ROOMS] Critical write error: write /x/1.blk: no space left on device", "no space left on device"),
        ("JetStream stream 'CORE > ROOMS' critical write error: write /x/1.blk: i/o error", "i/o error"),
        ('JetStream stream \'CORE > ROOMS\' critical write error: last msgid mismatch: "x: said" vs "by: one"', HALTED),
        ("127.0.0.1:4 - cid:7 - Filestore [ROOMS] Critical write error: said by a client", ""),
        ("Filestore [ROOMS] Stream state outdated, last block has additional entries, will rebuild", ""),
    ],
)
def test_only_the_servers_own_word_says_that_a_write_failed(line: str, why: str) -> None:
    assert failed_write(line) == why


def test_a_disk_that_has_space_is_no_shortage_and_one_that_is_not_there_is(tmp_path: Path) -> None:
    assert shortage(tmp_path) == ""
    assert shortage(tmp_path / "nowhere") == "the disk for messages cannot be looked at: no such file or directory"
