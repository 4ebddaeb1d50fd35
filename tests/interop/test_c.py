"""A stock NATS client in C, Debian's libnats, with nothing but a user's seed on a real bus."""

import asyncio
import json
import shutil
import subprocess
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.builders import identity, user
from tests.interop.program import HERE
from tests.support.daemon import Daemon
from tests.support.people import WAIT, Place, tail
from unibus.crypto import nkeys

PACKAGES = HERE.parent / "debian-packages.txt"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """raw.c, compiled. Where there is nothing to compile it with, this fails and says what to install."""
    compiler = shutil.which("gcc")
    assert compiler, f"there is no gcc: run tests/install-packages {PACKAGES} as root"
    program = tmp_path_factory.mktemp("c") / "raw"
    built = subprocess.run(
        [
            compiler,
            "-std=gnu17",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-O1",
            "-o",
            program,
            HERE / "raw.c",
            "-lnats",
            "-lpthread",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    missing = "nats/nats.h: No such file" in built.stderr or "cannot find -lnats" in built.stderr
    assert not missing, f"there is no libnats-dev: run tests/install-packages {PACKAGES} as root"
    assert built.returncode == 0, built.stderr
    return program


async def run(program: Path, *lines: str) -> dict[str, object]:
    """What the program makes of those lines."""
    process = await asyncio.create_subprocess_exec(program, stdin=PIPE, stdout=PIPE, stderr=PIPE, env={})
    try:
        async with asyncio.timeout(WAIT):
            out, said = await process.communicate("\n".join([*lines, ""]).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said.decode()
    found: dict[str, object] = json.loads(out)
    return found


async def test_a_stock_client_with_only_the_seed_reads_and_writes_frames(
    raw: Path, daemon: Daemon, place: Place
) -> None:
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        room, closed = await ada.create_room("ops"), await ada.create_room("closed")
        await room.add("bob")
        await room.send("hello")
        forbidden = [
            f"room.{room.id}.msg.{user('ada')}",
            f"room.{closed.id}.msg.{user('bob')}",
            f"ctl.{user('ada')}.deliver",
            "$JS.API.INFO",
        ]
        login = (f"nats://127.0.0.1:{daemon.nats_port}", identity("bob").seed, user("bob"))
        told = await run(raw, *login, room.id, bytes(300).hex(), *forbidden)
        first = bytes.fromhex(str(told.pop("first")))
        assert first[5:37] == nkeys.decode_public(user("ada"))
        stored = [{"stream": "ROOMS", "seq": sequence} for sequence in (2, 3)]
        assert told == {"opened": {"after": 0}, "stored": stored, "refused": forbidden}
        await room.send("again")
        async with tail(await bob.room("ops")) as at_bob:
            assert await at_bob.until(2) == ["hello", "again"]
            assert [refusal.error.code for refusal in at_bob.refused] == ["frame-invalid", "frame-invalid"]


async def test_it_is_not_let_in_with_the_seed_of_a_stranger(raw: Path, daemon: Daemon, place: Place) -> None:
    await place.found()
    seed, stranger = identity("stranger").seed, user("stranger")
    with pytest.raises(AssertionError, match=r"connect: .*(?i:auth)"):
        await run(raw, f"nats://127.0.0.1:{daemon.nats_port}", seed, stranger, "a" * 26, "00")


def test_the_list_of_packages_has_what_this_needs() -> None:
    assert {"gcc", "libnats-dev"} <= set(PACKAGES.read_text().splitlines())
