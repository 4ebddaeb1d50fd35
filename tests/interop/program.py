"""The JavaScript client as a program that tests run: JSON in, JSON out. It shares no code with what it is tried against."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

from tests.support.people import WAIT

HERE = Path(__file__).parent
NEEDED = (20, 19)
"""The Node.js version that the client's libraries ask for."""


class Program:
    """Runs commands of main.js, and the tests written in JavaScript."""

    async def does(self, command: str, **given: object) -> dict[str, Any]:
        """The result of a command; a refusal is the result `refused`, with the code."""
        return await self._answer("main.js", command, given=given)

    async def raw(self, **given: object) -> dict[str, Any]:
        """What raw.js, a stock NATS client with a seed, saw."""
        return await self._answer("raw.js", given=given)

    async def tests(self, name: str) -> tuple[int, str]:
        """The exit status of a file of tests, and what its runner said."""
        status, out, said = await self._run("--test", "--test-reporter=tap", name)
        return status, out + said

    async def _answer(self, *arguments: str, given: dict[str, object]) -> dict[str, Any]:
        status, out, said = await self._run(*arguments, given=json.dumps(given).encode())
        assert status == 0, said
        result = json.loads(out)
        assert isinstance(result, dict)
        return result

    async def _run(self, *arguments: str, given: bytes = b"") -> tuple[int, str, str]:
        node = shutil.which("node")
        assert node is not None
        process = await asyncio.create_subprocess_exec(
            *(node, *arguments),
            cwd=HERE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(WAIT):
                out, said = await process.communicate(given)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, out.decode(), said.decode()
