"""Fetching a backup of the whole bus, for admins: streamed to a file, signed by who fetched it, named when it is whole.

The signature says that an admin of the bus was given exactly these bytes: whoever keeps the file can then neither alter
it nor cut off what a bus would rather not forget, such as a revocation. Whether it is true, `unibus restore` verifies.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import aiohttp
from yarl import URL

from unibus.client.bus import Bus
from unibus.errors import InvalidInput, Untrusted, reason_of
from unibus.model.backup import END, SIGNATURE, member, padding, write_seal

READ = 2**20
_PATIENCE = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=3600.0)
"""Before its first byte the daemon puts copies aside, which takes as long as its disk takes to write them."""


async def fetch_backup(bus: Bus, path: Path, progress: Callable[[int, int], object]) -> int:
    """Fetch a backup to the new file `path` (0600); its bytes. `progress` is told how many have come, of how many.

    Raises Forbidden for who is no admin, InvalidInput about `path`, LimitReached while another backup is made.
    """
    partial = path.with_name(f".{path.name[:120]}.part")
    descriptor = _open(path, partial)
    try:
        with os.fdopen(descriptor, "wb") as file:
            await _receive(bus, file, path, progress)
            await asyncio.to_thread(_write_out, file)
            size = file.tell()
        partial.rename(path)
        _sync(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return size


def _open(path: Path, partial: Path) -> int:
    if os.path.lexists(path):
        raise InvalidInput(f"there is a {path} already: it is kept; name another file")
    try:
        return os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise InvalidInput(f"there is a {partial} of another attempt: remove it if that has ended") from error
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(f"cannot write {path}: {reason_of(error)}")


async def _receive(bus: Bus, file: BinaryIO, path: Path, progress: Callable[[int, int], object]) -> None:
    hasher = hashlib.sha256()
    held, done = b"", 0
    async with bus.api.exchange("GET", URL("/v1/backup"), patience=_PATIENCE) as response:
        size = response.content_length or 0
        async for block in response.content.iter_chunked(READ):
            # The end of the file is held back: the signature goes before it.
            data, held = (held + block)[: -len(END)], (held + block)[-len(END) :]
            try:
                await asyncio.to_thread(file.write, data)
            except OSError as error:  # here, or it would pass for a fault of the connection
                raise _cannot_write(path, error) from error
            await asyncio.to_thread(hasher.update, data)
            done += len(block)
            progress(done, size)
    if held != END or done != size:
        raise Untrusted("what the server sent is no backup")
    seal = write_seal(bus.identity.signing, bus.id, int(time.time()), hasher.digest())
    for block in (member(SIGNATURE, len(seal)), seal, padding(len(seal)), END):
        file.write(block)


def _write_out(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
