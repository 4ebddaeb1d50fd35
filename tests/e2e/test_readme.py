"""The README's program, run as it stands there by somebody who has just copied it."""

import asyncio
import re
import sys
from pathlib import Path

from tests.builders import identity
from tests.e2e.conftest import StartNode
from tests.support.people import WAIT, Place
from unibus.client.identity_file import keep_identity

README = Path(__file__).parent.parent.parent / "README.md"


async def test_the_program_in_the_readme_sends_and_reads(start_node: StartNode, data_dir: Path, tmp_path: Path) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    node = await start_node()
    place = Place(f"http://127.0.0.1:{node.http_port}", data_dir)
    await place.found("bob")
    keep_identity(identity("bob"), tmp_path / "bob.nk")
    async with place.enter("ada") as ada:
        room = await ada.create_room("ops")
        await room.add("bob")
        at = await room.send("hello bob")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-c", program.replace("http://127.0.0.1:8470", place.url)),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        env={},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WAIT):
            assert await process.stdout.readline() == f"{at} ada hello bob\n".encode()
            assert (await process.stdout.readline()).endswith(b" bob the door is open\n")
    finally:
        process.kill()
        await process.communicate()
