"""What the SQLite engine keeps when its process is killed and when the disk is full. Real processes, really killed."""

import asyncio
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from unibus.store.port import Append, Entry
from unibus.store.sqlite import SqliteStore

CHILD = Path(__file__).with_name("child.py")


async def start(task: str, path: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), task, str(path), stdout=asyncio.subprocess.PIPE
    )


def facts(lines: bytes) -> list[dict[str, Any]]:
    """What the child said; a last line that the kill cut off was not said."""
    return [json.loads(line) for line in lines.splitlines(keepends=True) if line.endswith(b"\n")]


async def test_kill_9_loses_nothing_acknowledged_and_leaves_no_half(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    acknowledged: dict[str, int] = defaultdict(int)
    claimed: list[str] = []
    for lines in (1, 150, 600):
        child = await start("write", path)
        assert child.stdout is not None
        try:
            said = b"".join([await child.stdout.readline() for _ in range(lines)])
        finally:
            child.kill()
            said += await child.stdout.read()
            await child.wait()
        for fact in facts(said):
            if "claim" in fact:
                claimed.append(fact["claim"])
            else:
                acknowledged[fact["log"]] = max(acknowledged[fact["log"]], fact["position"])

        store = await SqliteStore.open(path)
        try:
            marks = dict(await store.marks("", "", 100))
            trail = [entry.value.decode() for entry in await store.entries("trail", 0, 100_000)]
            # Each line was written in the step that it tells of: a kill leaves neither without the other.
            assert sorted(trail) == sorted(
                [
                    f"{log} {entry.position}"
                    for log in await store.logs("log", "", 100)
                    for entry in await store.entries(log, 0, 100_000)
                ]
            )
            for log in await store.logs("log", "", 100):
                entries = await store.entries(log, 0, 100_000)
                values = [b"%d" % position for position in range(1, len(entries) + 1)]
                assert len(entries) >= acknowledged[log]
                assert entries == [Entry(position, value * 50) for position, value in enumerate(values, 1)]
                attached = await store.attachments(log, "a", 0, 100_000)
                assert attached == [Entry(position, value) for position, value in enumerate(values, 1)]
                assert marks[f"{log}/last"] == values[-1]
            assert not any(await asyncio.gather(*(store.claim(name, 100) for name in claimed)))
        finally:
            await store.close()
    assert len(acknowledged) == 8
    assert len(claimed) > 100


async def test_a_full_disk_refuses_by_name_writes_nothing_and_heals_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    child = await start("fill", path)
    said = facts((await asyncio.wait_for(child.communicate(), 30))[0])
    assert child.returncode == 0
    refused = "the disk refuses to read or write: see the system's log, then free space or replace it"
    assert said == [
        {"tight": refused, "reasons": [refused]},
        {"crowded": [refused, *["None"] * 5, *["True"] * 5]},
        {"full": refused},
        {"full": refused},
        {"reasons": [refused], "readable": 1},
        {"reasons": []},
        {"claimed": True},
    ]
    store = await SqliteStore.open(path)
    try:
        assert await store.entries("log", 0, 10) == [Entry(1, b"before"), Entry(2, b"after")]
        assert await store.logs("", "", 10) == ["log", *(f"small{n}" for n in range(5))]
        assert await store.marks("", "", 10) == []
        assert await store.attachments("log", "a", 0, 10) == []
        assert await store.attachments("large", "a", 0, 10) == []
        await store.append(Append("large", 1, b"x" * 1024 * 1024))
    finally:
        await store.close()


async def test_processes_that_share_a_file_have_one_winner_a_position(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    children = [await start("race", path) for _ in range(3)]
    outputs = await asyncio.wait_for(asyncio.gather(*(child.communicate() for child in children)), 30)
    won = {
        fact["position"]: b"%d" % child.pid
        for child, (output, _) in zip(children, outputs, strict=True)
        for fact in facts(output)
    }
    store = await SqliteStore.open(path)
    try:
        entries = await store.entries("log", 0, 1000)
    finally:
        await store.close()
    assert [entry.position for entry in entries] == list(range(1, 151))
    assert {entry.position: entry.value for entry in entries} == won
