"""What a node of a cluster goes by is the last word of each of the others, however often it is asked."""

import asyncio
import time
from pathlib import Path

import pytest
import structlog

from tests.e2e.conftest import options
from tests.store.kv_servers import WAIT, Server, quiet, running
from tests.store.test_kv_replica import put
from unibus.crypto.httpsig import WINDOW
from unibus.daemon.beats import Beat, Rules
from unibus.daemon.joining import Joining
from unibus.errors import StorageUnavailable
from unibus.store.kv import KvStore

RULES = Rules(cluster="c", bus_auth="enforce", tls=False, route_tls=False)


async def say(server: Server, kv: KvStore, ahead: float) -> None:
    """Have two others say that their clocks are so many seconds ahead, and return once `kv` has heard it."""
    word = Beat(instance="i", version="1", rules=RULES, now=time.time() + ahead).encoded()
    for name in ("b", "c"):
        await put(server, "unibus", f"node.{name}", word)
    async with asyncio.timeout(WAIT):
        while any(name not in kv.nodes() or kv.nodes()[name].value != word for name in ("b", "c")):  # noqa: ASYNC110 - signs of life are told to nobody
            await asyncio.sleep(0.02)


async def test_a_clock_is_judged_anew_at_each_new_word(tmp_path: Path) -> None:
    joining = Joining(options(tmp_path), structlog.stdlib.get_logger("unibus"))
    with running(tmp_path / "servers", 1) as (server,):
        store = await KvStore.open(
            tmp_path / "replica",
            server.dial,
            node="here",
            replicas=1,
            log=quiet(),
            clock=time.time,
            beat=joining.beat,
            durable=server.durable,
        )
        try:
            await store.wait_current()
            joining.check_clock(store)
            for _ in range(2):
                await say(server, store, 2 * WINDOW)
                for _ in range(2):
                    with pytest.raises(StorageUnavailable, match="behind the other nodes'"):
                        joining.check_clock(store)
                await say(server, store, 0.0)
                joining.check_clock(store)
        finally:
            await store.close()
