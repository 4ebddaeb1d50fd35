"""An object store that is told to take no more, and one that is made after its cluster has grown."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.store.blob_samples import DATA, NOTE, PLACE, read
from tests.store.blob_servers import WAIT, dialled, servers
from tests.support.parts import blocks
from unibus.errors import StorageUnavailable
from unibus.store.blob_objects import ObjectBlobs
from unibus.store.blob_objects_layout import Subjects

OTHER = "KV_records"
SETTINGS = {"name": OTHER, "subjects": ["records"], "num_replicas": 3}


async def test_nothing_is_received_while_it_is_full_and_the_upload_goes_on_afterwards(tmp_path: Path) -> None:
    full = False
    with servers(tmp_path, 1) as (server,):
        async with dialled(server) as dial:
            store = await ObjectBlobs.open(dial, replicas=1, clock=time.time, full=lambda: full)
            await store.begin(PLACE, len(DATA))
            await store.receive(PLACE, 0, blocks(DATA[:10]))
            full = True
            with pytest.raises(StorageUnavailable, match="no more room for blobs"):
                await store.receive(PLACE, 10, blocks(DATA[10:]))
            full = False
            upload = await store.upload(PLACE)
            assert upload is not None
            assert upload.received == 10
            await store.receive(PLACE, 10, blocks(DATA[10:]))
            await store.finish(PLACE, NOTE, 7)
            full = True
            assert await read(store) == DATA


@pytest.mark.slow
async def test_a_bucket_is_made_on_as_many_nodes_as_the_records_are_on_by_then(tmp_path: Path) -> None:
    with servers(tmp_path, 3) as (server, *_):
        async with dialled(server) as dial:
            async with asyncio.timeout(WAIT):
                while "error" in await dial.api(f"STREAM.CREATE.{OTHER}", SETTINGS):  # noqa: ASYNC110 - the three meet
                    await asyncio.sleep(0.1)
            store = await ObjectBlobs.open(dial, replicas=1, clock=time.time, beside=OTHER)
            await store.begin(PLACE, len(DATA))
            match await dial.api(f"STREAM.INFO.{Subjects('unibus-blobs').stream}"):
                case {"config": {"num_replicas": int(replicas)}}:
                    assert replicas == 3
                case info:
                    raise AssertionError(info)
