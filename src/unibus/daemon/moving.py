"""The bus in a data directory whose daemon is stopped, read out for a move: all of it verified, nothing of it changed.

Copies of records and messages lie in a directory of their own below it and are gone in the end. The one thing that
stays is the note of where the bus goes, which is written before anything gets there: from then on no daemon starts on
this directory, because of one bus there must not be two.
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import structlog

from unibus.bus.options import BusOptions
from unibus.bus.private import Private, private_server
from unibus.crypto.encoding import b64u
from unibus.crypto.heads import digest
from unibus.daemon.bus_keys import NAME as BUS_KEYS
from unibus.daemon.data_dir import BLOBS, MESSAGES, MOVING, REPLICA, STORE, DataDir
from unibus.daemon.engines import clustered
from unibus.daemon.moved import Moved, forget_moved, note_moved, read_moved
from unibus.errors import BusUnavailable, StartRefused, StorageUnavailable
from unibus.model.backup import MANIFEST, Header, Messages, Part, Records, StoredBlob, write_line
from unibus.model.moving import contents
from unibus.model.records import DIRECTORY
from unibus.services.backups import measure, write_heads
from unibus.services.unpacking import Manifest
from unibus.services.verifying import verify_blob, verify_records
from unibus.store.blob_files import FileBlobs
from unibus.store.blob_objects import ObjectBlobs
from unibus.store.blob_port import BlobStore
from unibus.store.core_link import CoreLink
from unibus.store.kv import KvStore
from unibus.store.port import Store
from unibus.store.snapshot import read_snapshot
from unibus.store.sqlite import SqliteStore

# What fails is raised; the private server's own log would only come between the lines that a person reads.
_LOG = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
_NODE = "migrate-to-kv"
READY_WITHIN = 60.0
"""Seconds that a store on a nats-server may take to be current."""
Progress = Callable[[str, int, int | None], object]
"""Told what is being done, how far it is, and of how much where that is known."""


@dataclass(frozen=True, slots=True)
class Totals:
    """How much a bus holds."""

    logs: int
    records: int
    messages: int
    message_bytes: int
    blobs: int
    blob_bytes: int


class Source:
    """A bus that stands still. `bus` is its id; `copy` comes before all that is about its contents."""

    def __init__(
        self, data_dir: Path, store: Store, blobs: BlobStore, server: Private, bus: str, clock: Callable[[], float]
    ) -> None:
        self.bus = bus
        self._data_dir = data_dir
        self._work = data_dir / MOVING
        self._store = store
        self._blobs = blobs
        self._server = server
        moved = read_moved(data_dir)
        self._noted = moved is not None
        # The time is that of the first try, so that a try that goes on moves the same thing.
        self._at = moved.at if moved is not None else int(clock())

    async def copy(self, progress: Progress) -> Totals:
        """Put copies aside and verify them; how much there is. Raises BackupInvalid, BusUnavailable, OSError."""
        progress("copying", 0, None)
        with self.manifest.open("xb") as manifest:
            manifest.write(write_line(Header(bus=self.bus, at=self._at, node="")))
            async for part in self._parts():
                manifest.write(write_line(part))
            await asyncio.to_thread(write_heads, self.records, manifest)
        return await asyncio.to_thread(self._verify, progress)

    @property
    def manifest(self) -> Path:
        """The file that names all parts."""
        return self._work / MANIFEST

    @property
    def records(self) -> Path:
        """The copy of the store."""
        return self._work / "store.sqlite3"

    @property
    def messages(self) -> Path:
        """The snapshot of the messages."""
        return self._work / "stream.snapshot"

    @property
    def digest(self) -> str:
        """The digest of all that there is, as `model.moving.contents` gives it."""
        found = Manifest(self.manifest)
        return contents(chain([found.header()], found.parts(), found.heads()))

    def blobs(self) -> list[StoredBlob]:
        """All blobs."""
        return [part for part in Manifest(self.manifest).parts() if isinstance(part, StoredBlob)]

    def read(self, blob: StoredBlob, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """A blob's bytes from `start` up to `stop`."""
        return self._blobs.read(blob.room, blob.id, start, stop)

    def note(self, to: str, *, done: bool) -> None:
        """Note that the bus goes `to` a node, or lives there once it is `done`. No daemon starts here any more."""
        note_moved(self._data_dir, Moved(bus=self.bus, to=to, at=self._at, done=done))

    def forget(self) -> None:
        """Take the note away, if it was not there when this began: nothing has come of the move."""
        if not self._noted:
            forget_moved(self._data_dir)

    async def _parts(self) -> AsyncIterator[Part]:
        state = await self._server.save(self.messages)
        size, found = await asyncio.to_thread(measure, self.messages)
        yield Messages(
            size=size, sha256=found, messages=state.messages, bytes=state.bytes, first=state.first, last=state.last
        )
        _, held = await self._blobs.survey()
        for one in sorted(held, key=lambda held: held.place):
            place, note = one.place, b64u(one.note)
            yield StoredBlob(
                room=place.scope, id=place.blob, size=one.size, owner=place.owner, note=note, stored_at=one.stored_at
            )
        await self._store.snapshot(self.records)
        size, found = await asyncio.to_thread(measure, self.records)
        yield Records(size=size, sha256=found)

    def _verify(self, progress: Progress) -> Totals:
        manifest = Manifest(self.manifest)
        lengths = [head.sequence for head in manifest.heads()]
        numbers = count(1)
        with read_snapshot(self.records) as snapshot:
            verified = verify_records(
                snapshot, self.bus, manifest.heads(), lambda: progress("verifying", next(numbers), sum(lengths))
            )
        blobs = self.blobs()
        for part in blobs:
            verify_blob(part, verified)
        messages = manifest.messages()
        return Totals(
            logs=len(lengths),
            records=sum(lengths),
            messages=messages.messages,
            message_bytes=messages.bytes,
            blobs=len(blobs),
            blob_bytes=sum(part.size for part in blobs),
        )


@asynccontextmanager
async def open_source(
    data_dir: Path, *, nats_server: Path | None, clock: Callable[[], float], random: Callable[[int], bytes]
) -> AsyncIterator[Source]:
    """The bus in `data_dir`, held until this is left. `clock` gives Unix seconds.

    Raises StartRefused when a daemon uses the directory or it holds no bus that can be moved, StorageUnavailable.
    """
    kv = (data_dir / REPLICA).exists()
    if not kv and not (data_dir / STORE).exists():
        raise StartRefused(f"{data_dir} holds no bus: name the data directory of the node that it is moved from")
    async with AsyncExitStack() as stack:
        stack.enter_context(DataDir(data_dir))
        if clustered(data_dir):
            raise StartRefused(f"{data_dir} belongs to a cluster: its bus is in the kv already")
        if (data_dir / BUS_KEYS).exists() or not (data_dir / MESSAGES).exists():
            raise StartRefused(
                f"the messages of {data_dir} are in a nats-server of its own: make a backup, restore it into a new "
                "directory, and move that"
            )
        work = data_dir / MOVING
        work.mkdir(mode=0o700)
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        options = BusOptions(data_dir, port=0, binary=nats_server)
        try:
            server = await stack.enter_async_context(private_server(options, work / "run", random, _LOG))
        except BusUnavailable as error:
            raise StorageUnavailable(f"the messages in {data_dir} cannot be read: {error.message}") from error
        store, blobs = await (_kv if kv else _sqlite)(data_dir, server, stack, clock)
        first = await store.entries(DIRECTORY, 0, 1)
        if not first:
            raise StartRefused(f"the bus in {data_dir} has no users yet: found one with unibus init at the new node")
        yield Source(data_dir, store, blobs, server, b64u(digest(first[0].value)), clock)


async def _sqlite(
    data_dir: Path,
    server: Private,  # noqa: ARG001 - as `_kv`
    stack: AsyncExitStack,
    clock: Callable[[], float],  # noqa: ARG001 - as `_kv`
) -> tuple[Store, BlobStore]:
    store = await SqliteStore.open(data_dir / STORE)
    stack.push_async_callback(store.close)
    return store, await FileBlobs.open(data_dir / BLOBS)


async def _kv(
    data_dir: Path, server: Private, stack: AsyncExitStack, clock: Callable[[], float]
) -> tuple[Store, BlobStore]:
    """The store of a node that was alone; what its replica has not caught up with is in the server."""

    async def durable() -> bool:
        return False

    store = await KvStore.open(
        data_dir / REPLICA,
        server.dial,
        node=_NODE,
        replicas=1,
        log=_LOG,
        clock=clock,
        beat=lambda: b"{}",
        durable=durable,
    )

    async def leave() -> None:
        with contextlib.suppress(
            StorageUnavailable
        ):  # then whoever goes on with this directory has to have it forgotten
            await store.forget_node(_NODE)
        await store.close()

    stack.push_async_callback(leave)
    link = CoreLink(server.dial)
    running = asyncio.create_task(link.run(), name="blob link")
    stack.push_async_callback(asyncio.wait, [running])
    stack.callback(running.cancel)
    try:
        async with asyncio.timeout(READY_WITHIN):
            await store.wait_current()
            await store.sync()
    except TimeoutError as error:
        raise StorageUnavailable(f"the records in {data_dir} cannot be read: {store.current()}") from error
    return store, await ObjectBlobs.open(link.client, replicas=1, clock=clock)
