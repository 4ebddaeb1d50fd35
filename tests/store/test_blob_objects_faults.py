"""Blobs in an object store whose server is killed, does not answer, or has no room: named errors, nothing half-done."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.store.blob_samples import DATA, ID, LARGE, LARGE_PLACE, MIB, NOTE, PLACE, read, stored
from tests.store.blob_servers import DyingDial, dialled, servers
from tests.support.parts import blocks
from unibus.errors import StorageUnavailable
from unibus.store.blob_objects import ObjectBlobs

pytestmark = pytest.mark.slow


async def test_no_connection_and_no_answer_are_named(tmp_path: Path) -> None:
    with servers(tmp_path, 1) as (server,):
        async with dialled(server) as dial:
            gone = await ObjectBlobs.open(DyingDial(dial, 0), replicas=1, clock=time.time)
            with pytest.raises(StorageUnavailable, match="dead"):
                await gone.begin(PLACE, 5)
            store = await ObjectBlobs.open(dial, replicas=1, clock=time.time)
            await store.begin(PLACE, len(DATA))
            server.pause(True)
            async with asyncio.timeout(8):
                with pytest.raises(StorageUnavailable, match="did not answer"):
                    await store.receive(PLACE, 0, blocks(DATA))
            server.pause(False)
            upload = await store.upload(PLACE)
            assert upload is not None
            await store.receive(PLACE, upload.received, blocks(DATA[upload.received :]))
            assert (await store.finish(PLACE, NOTE, 7)).size == len(DATA)


async def test_a_full_disk_keeps_nothing_of_the_upload(tmp_path: Path) -> None:
    with servers(tmp_path, 1, ", max_file_store: 4MB") as (server,):
        async with dialled(server) as dial:
            store = await ObjectBlobs.open(dial, replicas=1, clock=time.time)
            await store.begin(LARGE_PLACE, len(LARGE))
            with pytest.raises(StorageUnavailable, match="full"):
                await store.receive(LARGE_PLACE, 0, blocks(LARGE))
            assert await store.survey() == ([], [])
            held = await stored(store)
            assert await store.survey() == ([], [held])


async def test_a_killed_server_forgets_nothing_that_counted(tmp_path: Path) -> None:
    with servers(tmp_path, 1) as (server,):
        async with dialled(server) as dial:
            store = await ObjectBlobs.open(dial, replicas=1, clock=time.time)
            held = await stored(store)
            await store.begin(LARGE_PLACE, len(LARGE))
            await store.receive(LARGE_PLACE, 0, blocks(LARGE[:MIB]))

            async def killing() -> AsyncIterator[bytes]:
                yield LARGE[MIB : 4 * MIB]
                server.kill()
                yield LARGE[4 * MIB :]

            with pytest.raises(StorageUnavailable):
                await store.receive(LARGE_PLACE, MIB, killing())
            with pytest.raises(StorageUnavailable):
                await store.find("room", ID)
            server.start()
            await dial.connect()
            await dial.ready()
            uploads, blobs = await store.survey()
            assert list(blobs) == [held]
            assert [(upload.place, upload.received) for upload in uploads] == [(LARGE_PLACE, MIB)]
            await store.receive(LARGE_PLACE, MIB, blocks(LARGE[MIB:]))
            await store.finish(LARGE_PLACE, NOTE, 7)
            assert await read(store, 0, len(LARGE), LARGE_PLACE) == LARGE
