"""Signed records a second that the control plane takes, beside what the engine below it can write at all.

Each record makes a room, so that no two wait for the same log's head.
"""

import asyncio
import os
import secrets
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
from nats.aio.client import Client

from bench import promises
from bench.harness import Case, Metric, Sample, Side
from bench.load import rate, request, server_nonce
from bench.plan import Plan
from bench.programs import daemon, fresh, healthy
from bench.stage import Stage
from unibus.client.bus import Bus, connect
from unibus.client.founding import found_bus
from unibus.crypto.encoding import b64u
from unibus.crypto.httpsig import sign
from unibus.crypto.identity import Identity
from unibus.daemon.data_dir import TOKEN
from unibus.model.wire import AppendRequest

AT_ONCE = 64
VALUE = os.urandom(2_048)  # as large as a record that makes a room, with its sealed key

Appends = Callable[[], Awaitable[Sample]]


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """One case an engine: SQLite, and the KV bucket of one node."""
    metric = (Metric("signed append, sqlite", "records/s"),)
    writer = Identity.from_secret(secrets.token_bytes(32))  # is not on the bus, so nothing is told to it
    await stage.sender.admit("writer", writer.card())
    async with connect(stage.url, writer) as bus, table(stage.directory / "commits.sqlite3") as db:
        yield Case(
            metric,
            (
                Side("unibus", promises.UNIBUS_APPEND, unibus([bus], plan.appends)),
                Side("aiosqlite, a commit each", promises.COMMIT, _commits(db, plan.appends), (">= 0.7",)),
                Side("aiosqlite, commits shared", promises.COMMIT, _shared(db, plan.appends)),
            ),
        )
    raw = await creates(stage.synced.publisher, plan.appends, 1)
    async with kv_bus(stage.directory / "kv") as bus:
        yield Case(
            (Metric("signed append, kv", "records/s"),),
            (
                Side("unibus", promises.UNIBUS_APPEND, unibus([bus], plan.appends)),
                Side("nats-py, KV create", promises.RAW_KV, raw, (">= 0.7",)),
            ),
            seconds=120,
        )


@asynccontextmanager
async def kv_bus(where: Path) -> AsyncIterator[Bus]:
    """A bus of its own on a node that keeps its records in a KV bucket. Raises UnibusError."""
    async with daemon(fresh(where), "--store", "kv") as (url, data):
        await healthy(f"{url}/healthz")  # until then it does not know whether there is a bus
        owner = Identity.from_secret(secrets.token_bytes(32))
        await found_bus(url, owner, (data / TOKEN).read_text().strip(), "owner")
        async with connect(url, owner) as bus:
            yield bus


@asynccontextmanager
async def table(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """A table of values, in a file that is as durable as the store's."""
    async with aiosqlite.connect(path, isolation_level=None) as db:
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "CREATE TABLE t (value BLOB)"):
            await db.execute_fetchall(statement)
        yield db


def unibus(writers: Sequence[Bus], count: int, tls: ssl.SSLContext | None = None) -> Appends:
    """Append so many records by way of the control plane, as each of `writers` in turn."""
    return lambda: _append(writers, count, tls)


async def _append(writers: Sequence[Bus], count: int, tls: ssl.SSLContext | None) -> Sample:
    for bus in writers:
        await bus.replica.sync_directory()
    url = writers[0].api.url
    given = await server_nonce(url, tls)
    requests = []
    for number in range(count):
        bus = writers[number % len(writers)]
        signer = bus.signer()
        room, change = signer.create_room(bus.directory, f"room {number}", "shared")
        sealed = {user: b64u(key) for user, key in change.sealed.items()}
        body = AppendRequest(record=change.record.decode(), sealed=sealed).model_dump_json().encode()
        target = url / f"v1/rooms/{room}/records"
        nonce, now = b64u(os.urandom(16)), int(time.time())
        key = bus.identity.signing
        signed = sign(key, "POST", str(target), body, bus=bus.id, created=now, nonce=nonce, server_nonce=given)
        requests.append(request("POST", target, signed, body))
    assert url.port is not None
    return (await rate(url.port, requests, AT_ONCE, tls),)


async def _at_once(count: int, write: Callable[[], Awaitable[object]]) -> Sample:
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            await write()

    begin = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return (count / (time.perf_counter() - begin),)


def _commits(db: aiosqlite.Connection, count: int) -> Appends:
    return lambda: _at_once(count, lambda: db.execute_fetchall("INSERT INTO t VALUES (?)", (VALUE,)))


def _shared(db: aiosqlite.Connection, count: int) -> Appends:
    async def measure() -> Sample:
        waiting: list[asyncio.Future[None]] = []
        more = asyncio.Event()

        async def commit() -> None:
            while True:
                await more.wait()
                more.clear()
                while waiting:
                    served = waiting.copy()
                    waiting.clear()
                    await db.execute_fetchall("BEGIN IMMEDIATE")
                    await db.executemany("INSERT INTO t VALUES (?)", [(VALUE,)] * len(served))
                    await db.execute_fetchall("COMMIT")
                    for each in served:
                        each.set_result(None)

        async def write() -> None:
            written = asyncio.get_running_loop().create_future()
            waiting.append(written)
            more.set()
            await written

        committing = asyncio.create_task(commit())
        try:
            return await _at_once(count, write)
        finally:
            committing.cancel()
            await asyncio.gather(committing, return_exceptions=True)

    return measure


async def creates(client: Client, count: int, replicas: int) -> Appends:
    """Create so many keys in a bucket."""
    bucket = await client.jetstream().create_key_value(bucket="raw", replicas=replicas)
    return lambda: _at_once(count, lambda: bucket.create(secrets.token_hex(16), VALUE))
