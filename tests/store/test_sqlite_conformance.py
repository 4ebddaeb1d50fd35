"""The SQLite engine under the store's specification."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.store.conformance import OpenStore, StoreConformance
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
