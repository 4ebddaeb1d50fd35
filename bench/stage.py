"""The programs under measurement, each a process of its own on a free port with its data in a directory of its own.

All of them end with the measuring process, however that ends. Never measures anything.
"""

import asyncio
import json
import os
import secrets
import sys
import sysconfig
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nats
import structlog
from nats.aio.client import Client as Nats
from nats.js.errors import NoStreamResponseError, ServiceUnavailableError

from unibus.bus import binary, launch
from unibus.bus.child import Child
from unibus.client.api import ControlApi
from unibus.client.bus import Bus, connect
from unibus.client.changes import Signer
from unibus.crypto.identity import Identity
from unibus.daemon.data_dir import TOKEN
from unibus.errors import StartRefused, Unreachable

STREAM = "PLAIN"
START_SECONDS = 20.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Plain:
    """A nats-server as it comes, with JetStream on disk: a connection that publishes and one that receives."""

    publisher: Nats
    receiver: Nats


@dataclass(frozen=True, slots=True)
class World:
    """Everything that is measured: a unibus daemon with two users, and the references."""

    url: str
    sender_identity: Identity
    sender: Bus
    receiver: Bus
    plain: Plain
    synced: Plain
    """As `plain`, but on disk before it acknowledges (`sync_interval: always`), as unibus runs its own."""


@asynccontextmanager
async def program(arguments: list[str], first_word: str, errors: Path) -> AsyncIterator[str]:
    """Run a program; gives the first line of its output that begins with `first_word`. Raises StartRefused."""
    with errors.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env={},
        )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            async for line in process.stdout:
                if line.split()[:1] == [first_word.encode()]:
                    yield line.decode().strip()
                    break
            else:
                said = errors.read_text(errors="replace").strip().splitlines()
                raise StartRefused(f"{arguments[0]} did not start: {said[-1] if said else 'it said nothing'}")
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
