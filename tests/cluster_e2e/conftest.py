"""One founded cluster for all tests of a file: each test leaves it as well as it has found it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.builders import identity
from tests.support.cluster import WAIT, Cluster, cluster

USERS = ("bob", "carol", "dave", "erin")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """Three nodes; the bus was founded on n2, with ada as its admin and `USERS`."""
    async with cluster(tmp_path_factory.mktemp("cluster")) as made:
        await made.start()
        tokens = [made.token(node.name) for node in made.nodes]
        assert all(token.exists() for token in tokens)
        made.spent = tokens[0].read_text().strip()
        await made.found(at="n2")
        for node in made.nodes:  # at once: no node may say that there is no bus yet
            async with made.enter("ada", node.name, only=True):
                pass
        async with made.enter("ada") as ada:
            for name in USERS:
                await ada.admit(name, identity(name).card())
        async with asyncio.timeout(WAIT):
            while any(token.exists() for token in tokens):  # noqa: ASYNC110 - a file that goes tells nobody
                await asyncio.sleep(0.01)
        yield made
