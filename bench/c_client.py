"""`publish.c`, compiled and run: the C client as a reference. Says what to install where it cannot be compiled."""

import asyncio
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

SOURCE = Path(__file__).with_name("publish.c")
FLAGS = ("-std=gnu17", "-Wall", "-Wextra", "-Werror", "-O2")
MISSING = "the C client is left out: install gcc and libnats-dev"


async def build(where: Path) -> Path | None:
    """The program, in the directory `where`; None where compiler or library is missing."""
    compiler = shutil.which("gcc")
    if compiler is None:
        return None
    program = where / "publish"
    command = (compiler, *FLAGS, "-o", program, SOURCE, "-lnats")
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    _, said = await process.communicate()
    if b"nats/nats.h: No such file" in said or b"cannot find -lnats" in said:
        return None
    if process.returncode != 0:
        raise OSError(f"{SOURCE.name} does not compile: {said.decode(errors='replace').strip()}")
    return program


async def publish(program: Path, url: str, subject: str, size: int, seconds: float, window: int) -> float:
    """Acknowledged messages a second. Raises OSError."""
    command = (str(program), url, subject, str(size), str(seconds), str(window))
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env={})
    try:
        out, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise OSError(f"the C client failed: {said.decode(errors='replace').strip()}")
    return float(out)
