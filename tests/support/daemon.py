"""The real `unibus-membershipd`, as a process with its own ports and data directory."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.processes import WAIT

_PORT = re.compile(rb"^  (http|nats)  \S+:([0-9]+)", re.MULTILINE)


class Daemon:
    """One running process. `http_port` and `nats_port` are known once `start` has returned."""

    def __init__(self, process: asyncio.subprocess.Process, data_dir: Path) -> None:
        self.process = process
        self.data_dir = data_dir
        self.http_port = self.nats_port = 0
        self.greeting = b""
        self._said = bytearray()
        self._more = asyncio.Event()
        self._listening = asyncio.create_task(self._listen(), name="daemon's log")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def said(self) -> str:
        """All that it has said on standard error so far, its log among it."""
        return self._said.decode()

    @property
    def log(self) -> list[Mapping[str, object]]:
        """The events it has logged so far."""
        lines = bytes(self._said).splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"\n")]

    async def heard(self, event: str) -> Mapping[str, object]:
        """The first event of that name in the log, now or soon."""
        async with asyncio.timeout(WAIT):
            while True:
                self._more.clear()
                for entry in self.log:
                    if entry["event"] == event:
                        return entry
                await self._more.wait()

    async def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """Its exit status, once it has ended."""
        async with asyncio.timeout(WAIT):
            status = await self.process.wait()
            await self._listening
        return status

    async def ready(self) -> None:
        """Return once it has said where it listens; fail if it ends instead."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WAIT):
            while len(ports := dict(_PORT.findall(self.greeting))) < 2:
                line = await self.process.stdout.readline()
                if not line:
                    status = await self.ended()
                    raise AssertionError(f"the daemon ended with {status}: {self._said.decode()}")
                self.greeting += line
            self.http_port, self.nats_port = int(ports[b"http"]), int(ports[b"nats"])

    async def _listen(self) -> None:
        assert self.process.stderr is not None
        while chunk := await self.process.stderr.read(65536):
            self._said += chunk
            self._more.set()


async def spawn(data_dir: Path, *flags: str, **variables: str) -> asyncio.subprocess.Process:
    """Start a daemon on free ports, unless `flags` or UNIBUS_ `variables` say otherwise; return at once."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("UNIBUS_")}
    free = {"UNIBUS_HTTP_BIND": "127.0.0.1:0", "UNIBUS_NATS_BIND": "127.0.0.1:0", "UNIBUS_DATA_DIR": str(data_dir)}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "unibus.daemon", *flags),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=own | free | variables,
    )


async def refused(data_dir: Path, *flags: str, **variables: str) -> tuple[int, str]:
    """The exit status of a daemon that is not to start, and what it said."""
    process = await spawn(data_dir, *flags, **variables)
    try:
        async with asyncio.timeout(WAIT):
            out, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert out == b""
    assert process.returncode is not None
    return process.returncode, said.decode()
