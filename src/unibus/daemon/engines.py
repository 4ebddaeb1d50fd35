"""The two engines behind the same ports: SQLite and files for one node, JetStream's KV and object store for a cluster.

Part of the one place that wires the daemon (`daemon.node`). Must never open one engine on another's data: a bus that
seems to be gone would be founded a second time.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from unibus.bus.cluster_watch import RECORDS
from unibus.daemon.data_dir import BLOBS, MESSAGES, REPLICA, STORE
from unibus.daemon.moved import check_not_moved
from unibus.daemon.options import Options
from unibus.errors import StartRefused, StorageUnavailable
from unibus.store.blob_files import FileBlobs
from unibus.store.blob_port import BlobStore
from unibus.store.port import Store
from unibus.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from unibus.store.core_link import CoreLink
    from unibus.store.kv import KvStore
    from unibus.store.kv_node import Dial

_ALONE = Path(MESSAGES) / "jetstream" / "CORE" / "streams" / "KV_unibus"
"""Where a nats-server keeps a bucket that it made while it was in no cluster."""
_TOGETHER = Path(MESSAGES) / "jetstream" / "SYS" / "_js_" / "_meta_"
"""Where it keeps what the servers of a cluster have agreed on."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What keeps records and blobs. `kv` and `link` are None with SQLite, which needs nobody else."""

    store: Store
    blobs: BlobStore
    kv: "KvStore | None" = None
    link: "CoreLink | None" = None


async def open_engine(
    options: Options,
    stack: AsyncExitStack,
    log: FilteringBoundLogger,
    *,
    dial: "Dial",
    beat: Callable[[], bytes],
    durable: Callable[[], Awaitable[bool]],
    full: Callable[[], bool],
) -> Engine:
    """The engine that was asked for, until `stack` is closed. `dial`, `beat` and `durable` are as `KvStore.open` takes
    them, `full` as `ObjectBlobs.open` does.

    Raises StartRefused.
    """
    check_data(options.data_dir, options.store, in_cluster=options.cluster is not None)
    try:
        if options.store == "sqlite":
            sqlite = await SqliteStore.open(options.data_dir / STORE)
            stack.push_async_callback(sqlite.close)
            return Engine(sqlite, await FileBlobs.open(options.data_dir / BLOBS))
        from unibus.store.blob_objects import ObjectBlobs  # here: a node alone is a megabyte smaller without
        from unibus.store.core_link import CoreLink
        from unibus.store.kv import KvStore

        kv = await KvStore.open(
            options.data_dir / REPLICA,
            dial,
            node=options.node_name,
            replicas=options.replicas,
            log=log,
            clock=time.time,
            beat=beat,
            durable=durable,
        )
    except StorageUnavailable as error:
        raise StartRefused(error.message) from error
    stack.push_async_callback(kv.close)
    link = CoreLink(dial)
    blobs = await ObjectBlobs.open(link.client, replicas=options.replicas, clock=time.time, beside=RECORDS, full=full)
    return Engine(kv, blobs, kv, link)


def check_data(data_dir: Path, store: str, *, in_cluster: bool) -> None:
    """Return if what lies in `data_dir` is this engine's, or nothing. Raises StartRefused."""
    check_not_moved(data_dir)
    if store == "kv" and (data_dir / STORE).exists():
        raise StartRefused(
            f"{data_dir} holds a bus on sqlite: "
            "start with another --data-dir, and move the bus with unibus migrate-to-kv"
        )
    if store == "sqlite" and (data_dir / REPLICA).exists():
        raise StartRefused(f"{data_dir} belongs to a node with --store kv: say so, or name another --data-dir")
    if in_cluster and (data_dir / _ALONE).exists() and not clustered(data_dir):
        raise StartRefused(
            f"{data_dir} holds a bus of one node, which nats-server does not take into a cluster: "
            "start with another --data-dir, and move the bus with unibus migrate-to-kv"
        )


def clustered(data_dir: Path) -> bool:
    """Whether the nats-server of this directory has ever been in a cluster."""
    return (data_dir / _TOGETHER).exists()
