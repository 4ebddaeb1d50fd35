"""The SQLite engine under the store's specification."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.store.conformance import StoreConformance
from tests.store.racing_conformance import OpenStore
from unibus.store.port import Store
from unibus.store.sqlite import SqliteStore


class TestSqlite(StoreConformance):
    @pytest.fixture
    async def open_store(self, tmp_path: Path) -> AsyncIterator[OpenStore]:
        async with AsyncExitStack() as opened:

            async def open_store() -> Store:
                store = await SqliteStore.open(tmp_path / "store.db")
                opened.push_async_callback(store.close)
                return store

            yield open_store


async def test_a_clock_that_was_set_back_revives_no_claim(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store")
    assert await store.claim("nonce", 99)
    assert await store.forget_claims(150) == 1
    await store.close()
    store = await SqliteStore.open(tmp_path / "store")
    assert not await store.claim("nonce", 99)  # a request of then, whose time is now once more
    assert await store.forget_claims(20) == 0
    assert not await store.claim("nonce", 149)
    assert await store.claim("nonce", 150)
    assert await store.forget_claims(200) == 1
    assert await store.claim("nonce", 210)
    await store.close()
