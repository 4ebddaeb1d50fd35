"""The JavaScript client as a program that tests run: JSON in, JSON out. It shares no code with what it is tried on."""

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Any

from tests.support.people import WAIT

HERE = Path(__file__).parent
LINE = 2**20
"""The longest result, in bytes: whole blobs are among them."""


class Client:
    """main.js, running. Each command is a new start, from what is on disk."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def does(self, command: str, **given: object) -> dict[str, Any]:
        """The result of a command; a refusal is the result `refused`, with the code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"command": command, **given}).encode() + b"\n")
        async with asyncio.timeout(WAIT):
            line = await self.process.stdout.readline()
        assert line, "the client ended: what it said is above"
        result = json.loads(line)
        assert isinstance(result, dict)
        return result

    async def end(self) -> int:
        """Its exit status, once it was told that there is no more to do."""
        try:
            async with asyncio.timeout(WAIT):
                await self.process.communicate(b"")
        finally:
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()
        assert self.process.returncode is not None
        return self.process.returncode


async def start(node: str) -> Client:
    """The client; what it says of its own mistakes goes where the tests' output goes."""
    return Client(await asyncio.create_subprocess_exec(node, "main.js", cwd=HERE, stdin=PIPE, stdout=PIPE, limit=LINE))


async def run(node: str, *arguments: str, given: bytes | None = None) -> tuple[int, str]:
    """The exit status and the output of another program in JavaScript, from start to end."""
    process = await asyncio.create_subprocess_exec(
        *(node, *arguments), cwd=HERE, stdin=DEVNULL if given is None else PIPE, stdout=PIPE
    )
    try:
        async with asyncio.timeout(WAIT):
            out, _ = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode()
