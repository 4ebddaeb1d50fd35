"""What nodes tell each other through the bucket, and that one that is given up is forgotten by all."""

import asyncio
from pathlib import Path

from tests.store.kv_servers import node, running
from unibus.store.kv import KvStore


async def known(store: KvStore, *names: str) -> None:
    """Return once these are the nodes that `store` knows."""
    async with asyncio.timeout(10):
        while set(store.nodes()) != set(names):  # noqa: ASYNC110 - signs of life are told to nobody
            await asyncio.sleep(0.02)


async def test_a_node_that_is_forgotten_is_gone_from_all_also_from_who_comes_later(tmp_path: Path) -> None:
    with running(tmp_path / "servers", 1) as (server,):
        async with (
            node(server, tmp_path / "a", "b", name="one") as one,
            node(server, tmp_path / "b", "b", name="two") as two,
        ):
            async with node(server, tmp_path / "c", "b", name="three"):
                await known(one, "one", "two", "three")
            await one.forget_node("three")
            await known(one, "one", "two")
            await known(two, "one", "two")
            async with node(server, tmp_path / "d", "b", name="four") as four:
                await known(four, "one", "two", "four")
