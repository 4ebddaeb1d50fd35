"""A node's copy of the cluster's records: what it survives, what it refuses, what becomes of one that does not fit."""

import asyncio
import shutil
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.bus.stage import Logbook
from tests.store.kv_servers import WAIT, Server, jetstream, node, running
from unibus.crypto.encoding import b64u
from unibus.errors import StartRefused, StorageUnavailable
from unibus.store.kv import boottime
from unibus.store.kv_entry import pack
from unibus.store.port import Append, Entry
from unibus.store.sqlite import to_add

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), 1) as (started,):
        yield started


@pytest.fixture
async def bucket(server: Server) -> AsyncIterator[str]:
    name = uuid4().hex
    yield name
    await jetstream(server, f"STREAM.DELETE.KV_{name}")


async def put(server: Server, bucket: str, key: str, value: bytes, **headers: str) -> None:
    """Write past the store, as whoever holds the cluster's own login can."""
    client = await server.dial()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    await client.request(f"$KV.{bucket}.{key}", value, headers=named or None, timeout=WAIT)
    await client.close()


async def stored(server: Server, bucket: str, key: str) -> bytes:
    client = await server.dial()
    reply = await client.request(f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}", timeout=WAIT)
    await client.close()
    return reply.data


async def keys(server: Server, bucket: str, pattern: str) -> dict[str, int]:
    info: dict[str, Any] = await jetstream(
        server, f"STREAM.INFO.KV_{bucket}", {"subjects_filter": f"$KV.{bucket}.{pattern}"}
    )
    return dict(info["state"].get("subjects") or {})


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "deleted"])
async def test_a_restart_goes_on_or_builds_the_copy_anew(
    server: Server, bucket: str, tmp_path: Path, kept: bool
) -> None:
    replica, log, logs = tmp_path / "replica", Logbook(), [f"log {number:03}" for number in range(600)]
    async with node(server, replica, bucket) as store:
        # More than one answer of the server carries.
        await asyncio.gather(*(store.append(Append(log, 1, b"v", {"a": b"x"}, {log: b"m"})) for log in logs))
    if not kept:
        replica.unlink()
    async with node(server, tmp_path / "other", bucket) as other:
        await other.append(Append("log 000", 2, b"meanwhile"))
    heard: list[tuple[str, int]] = []
    async with node(server, replica, bucket, log=log.logger, current=False) as store:
        store.heard(lambda log, position, _: heard.append((log, position)))
        async with asyncio.timeout(WAIT):
            await store.wait_current()
        assert await store.counts("") == (600, 601)
        assert await store.entries("log 000", 0, 9) == [Entry(1, b"v"), Entry(2, b"meanwhile")]
        assert await store.attachments("log 599", "a", 0, 9) == [Entry(1, b"x")]
        assert await store.marks("", "", 1000) == [(log, b"m") for log in logs]
    assert heard[-1] == ("log 000", 2)
    assert sorted(heard[:-1]) == ([] if kept else [(log, 1) for log in logs])
    assert log.entries == []


async def test_nothing_is_answered_before_it_is_proven(server: Server, bucket: str, tmp_path: Path) -> None:
    async with node(server, tmp_path / "replica", bucket) as store:
        await store.append(Append("log", 1, b"v"))
    async with node(server, tmp_path / "replica", bucket, current=False) as store:
        with pytest.raises(StorageUnavailable, match=r"not caught up.*just started"):
            await store.last("log")
        with pytest.raises(StorageUnavailable, match="not caught up"):
            await store.append(Append("log", 2, b"v"))
        with pytest.raises(StorageUnavailable, match="not caught up"):
            await store.claim("nonce", 2**40)


async def test_a_process_that_was_stopped_notices_before_it_answers(
    server: Server, bucket: str, tmp_path: Path
) -> None:
    asleep = 0.0
    async with node(server, tmp_path / "replica", bucket, monotonic=lambda: boottime() + asleep) as store:
        await store.append(Append("log", 1, b"v"))
        reading = asyncio.ensure_future(store.last("log"))
        await asyncio.sleep(0)  # it has looked at the clock and asked the file
        asleep = 6.0
        with pytest.raises(StorageUnavailable, match="not caught up"):
            await reading
        with pytest.raises(StorageUnavailable, match="not caught up"):
            await store.last("log")
        async with asyncio.timeout(WAIT):
            await store.wait_current()
        assert await store.last("log") == Entry(1, b"v")


async def test_a_node_comes_back_when_its_server_does(server: Server, bucket: str, tmp_path: Path) -> None:
    async with node(server, tmp_path / "replica", bucket, lease=0.5) as store:
        await store.append(Append("log", 1, b"v"))
        server.send(signal.SIGKILL)
        try:
            began = time.monotonic()
            for attempt in (store.append(Append("log", 2, b"v")), store.claim("nonce", 2**40), store.sync()):
                with pytest.raises(StorageUnavailable):
                    await attempt
            assert time.monotonic() - began < 7.0
            async with asyncio.timeout(WAIT):
                while store.current() is None:  # noqa: ASYNC110 - a lease runs out without an event
                    await asyncio.sleep(0.02)
            with pytest.raises(StorageUnavailable, match="nats-server does not answer"):
                await store.last("log")
        finally:
            server.start()
        async with asyncio.timeout(WAIT):
            await store.wait_current()
        await store.append(Append("log", 2, b"w"))
        assert await store.last("log") == Entry(2, b"w")


async def test_an_append_larger_than_a_message_is_one(server: Server, bucket: str, tmp_path: Path) -> None:
    sealed = {f"member-{number:05}": number.to_bytes(2, "big") * 600 for number in range(10_000)}
    async with node(server, tmp_path / "replica", bucket) as store:
        await store.append(Append("log", 1, b"v" * MIB, sealed, {"m": b"x"}))
        assert len(await keys(server, bucket, "part.>")) > 20
        assert await store.attachments("log", "member-09999", 0, 2) == [Entry(1, sealed["member-09999"])]
    async with node(server, tmp_path / "other", bucket) as other:
        assert await other.last("log") == Entry(1, b"v" * MIB)
        assert await other.attachments("log", "member-00007", 0, 2) == [Entry(1, sealed["member-00007"])]
        assert await other.marks("", "", 10) == [("m", b"x")]


async def test_the_loser_of_a_race_takes_its_parts_along(server: Server, bucket: str, tmp_path: Path) -> None:
    async with node(server, tmp_path / "a", bucket) as a, node(server, tmp_path / "b", bucket, name="b") as b:
        outcomes = await asyncio.gather(
            *(store.append(Append("log", 1, n * MIB)) for n, store in ((b"a", a), (b"b", b))), return_exceptions=True
        )
        assert sum(outcome is None for outcome in outcomes) == 1
        assert len(await keys(server, bucket, "part.>")) == 3
        await asyncio.gather(a.sync(), b.sync())
        assert await a.last("log") == await b.last("log") == Entry(1, (b"a" if outcomes[0] is None else b"b") * MIB)


async def test_lines_that_wait_share_a_message_and_are_read_by_all(server: Server, bucket: str, tmp_path: Path) -> None:
    async with node(server, tmp_path / "a", bucket) as a, node(server, tmp_path / "b", bucket, name="b") as b:
        pairs = [(Append(f"room/{n}", 1, b"record"), Append("trail", None, b"line of %d" % n)) for n in range(40)]
        await asyncio.gather(*(a.append(*pair) for pair in pairs))
        assert 40 + 1 <= len(await keys(server, bucket, "log.>")) < 40 + 10
        await b.sync()
        lines = await b.entries("trail", 0, 100)
        assert [line.position for line in lines] == list(range(1, 41))
        assert {line.value for line in lines} == {b"line of %d" % n for n in range(40)}
    async with node(server, tmp_path / "later", bucket, name="later") as later:
        assert await later.entries("trail", 0, 100) == lines


async def test_two_writers_of_one_trail_never_overlap(server: Server, bucket: str, tmp_path: Path) -> None:
    async with node(server, tmp_path / "a", bucket) as a, node(server, tmp_path / "b", bucket, name="b") as b:
        values = {store: [b"%s %d" % (name, n) for n in range(60)] for name, store in ((b"a", a), (b"b", b))}
        for tens in range(0, 60, 20):  # a run of each is on its way at a time
            waiting = [
                store.append(Append("trail", None, value))
                for store in (a, b)
                for value in values[store][tens : tens + 20]
            ]
            await asyncio.gather(*waiting)
        await asyncio.gather(a.sync(), b.sync())
        lines = await a.entries("trail", 0, 200)
        assert lines == await b.entries("trail", 0, 200)
        assert [line.position for line in lines] == list(range(1, 121))
        assert sorted(line.value for line in lines) == sorted(values[a] + values[b])


async def test_what_is_not_told_is_asked_for(server: Server, bucket: str, tmp_path: Path) -> None:
    async with node(server, tmp_path / "a", bucket) as a, node(server, tmp_path / "b", bucket, name="b") as b:
        config = (await jetstream(server, f"STREAM.INFO.KV_{bucket}"))["config"]
        await jetstream(server, f"STREAM.UPDATE.KV_{bucket}", {**config, "republish": None})
        for position in range(1, 6):
            await a.append(Append("log", position, b"v"))
            await b.sync()
            assert await b.last("log") == Entry(position, b"v")


async def test_a_bucket_made_by_others_keeps_its_replicas_and_gets_the_rest(
    server: Server, bucket: str, tmp_path: Path
) -> None:
    client = await server.dial()
    kv = await client.jetstream().create_key_value(bucket=bucket, history=1)
    async with node(server, tmp_path / "replica", bucket, replicas=3) as store:
        await store.append(Append("log", 1, b"v"))
        assert await store.claim("nonce", int(time.time()) + 60)
        assert (await store.posture())["replicas"] == 1
        # Stock clients read what is there.
        assert b"v" in ((await kv.get("log.log.1")).value or b"")
        assert {key.partition(".")[0] for key in await kv.keys()} == {"log", "claim", "node"}
        assert (await kv.status()).values == 3
    await client.close()


async def test_a_claim_goes_by_itself_after_its_end_and_no_sooner(server: Server, bucket: str, tmp_path: Path) -> None:
    async with node(server, tmp_path / "replica", bucket) as store:
        assert await store.claim("nonce", int(time.time()) + 60)
        (key,) = await keys(server, bucket, "claim.>")
        client = await server.dial()
        reply = await client.request(f"$JS.API.DIRECT.GET.KV_{bucket}.{key}", timeout=WAIT)
        await client.close()
        assert 60 + 600 - 5 <= int((reply.headers or {})["Nats-TTL"]) <= 60 + 600 + 1


async def test_another_bucket_in_the_place_of_the_known_one_is_named(
    server: Server, bucket: str, tmp_path: Path
) -> None:
    replica, log = tmp_path / "replica", Logbook()
    async with node(server, replica, bucket, log=log.logger) as store:
        await store.append(Append("log", 1, b"lost"))
        await jetstream(server, f"STREAM.DELETE.KV_{bucket}")
        async with node(server, tmp_path / "other", bucket, name="other") as other:
            await other.append(Append("log", 1, b"new"))
            await log.heard(
                "the cluster lost acknowledged records; this node's copy is built anew and the old one kept"
            )
            async with asyncio.timeout(WAIT):
                await store.wait_current()
            await store.sync()
            assert await store.entries("log", 0, 10) == [Entry(1, b"new")]
    with closing(sqlite3.connect(tmp_path / "replica.lost")) as db:
        assert db.execute("SELECT value FROM entries").fetchall() == [(b"lost",)]


async def test_a_stream_that_lost_its_end_is_named(tmp_path: Path) -> None:
    replica, log = tmp_path / "replica", Logbook()
    with running(tmp_path / "servers", 1) as (server,):
        async with node(server, replica, "b") as store:
            await store.append(Append("log", 1, b"kept"))
        server.send(signal.SIGKILL)
        shutil.copytree(server.directory / "js", tmp_path / "image")
        server.start()
        async with node(server, replica, "b") as store:
            await store.append(Append("log", 2, b"lost"))
        server.send(signal.SIGKILL)
        shutil.rmtree(server.directory / "js")
        (tmp_path / "image").rename(server.directory / "js")
        server.start()
        async with node(server, tmp_path / "other", "b", name="other") as other:
            for position in range(1, 10):  # the numbers that were lost are given out again
                await other.append(Append("another", position, b"new"))
            async with node(server, replica, "b", log=log.logger) as store:
                await log.heard(
                    "the cluster lost acknowledged records; this node's copy is built anew and the old one kept",
                    same_bucket=True,
                )
                assert await store.last("log") == Entry(1, b"kept")
                assert len(await store.entries("another", 0, 100)) == 9


async def test_a_damaged_copy_is_built_anew(server: Server, bucket: str, tmp_path: Path) -> None:
    replica, log = tmp_path / "replica", Logbook()
    async with node(server, replica, bucket) as store:
        await store.append(Append("log", 1, b"v"))
    replica.write_bytes(b"not a database at all" * 100)
    async with node(server, replica, bucket, log=log.logger) as store:
        assert await store.last("log") == Entry(1, b"v")
    await log.heard("this node's copy of the records is built anew")


async def test_a_copy_of_another_version_is_built_anew(server: Server, bucket: str, tmp_path: Path) -> None:
    replica, log = tmp_path / "replica", Logbook()
    async with node(server, replica, bucket) as store:
        await store.append(Append("log", 1, b"v"))
    with closing(sqlite3.connect(replica)) as db, db:
        db.execute("UPDATE following SET stream = 'other' || stream")
    async with node(server, replica, bucket, log=log.logger) as store:
        assert await store.last("log") == Entry(1, b"v")
    await log.heard("this node's copy of the records is built anew", reason="it is of another version's form")


async def test_a_file_of_another_program_is_left_alone(server: Server, bucket: str, tmp_path: Path) -> None:
    replica = tmp_path / "replica"
    with closing(sqlite3.connect(replica)) as db, db:
        db.execute("CREATE TABLE precious (x)")
    before = replica.read_bytes()
    with pytest.raises(StartRefused, match="not a store of unibus"):
        async with node(server, replica, bucket):
            pass
    assert replica.read_bytes() == before


async def test_who_waits_for_a_store_that_is_closed_is_told(server: Server, bucket: str, tmp_path: Path) -> None:
    async with node(server, tmp_path / "replica", bucket, current=False) as store:
        waiting = asyncio.ensure_future(store.wait_current())
        await store.close()
        with pytest.raises(StorageUnavailable, match="closed"):
            await waiting
        assert store.current() is not None


async def test_who_overwrites_or_deletes_a_record_is_not_followed(server: Server, bucket: str, tmp_path: Path) -> None:
    log = Logbook()
    async with node(server, tmp_path / "replica", bucket, log=log.logger) as store:
        await store.append(Append("log", 1, b"true"))
        await store.append(Append("log", 2, b"true too"))
        forged = await stored(server, bucket, "log.log.2")
        await put(server, bucket, "log.log.1", forged)
        await log.heard("somebody overwrote a record in the cluster; this node keeps the first", log="log", position=1)
        await put(server, bucket, "log.log.2", b"", KV_Operation="DEL")
        await log.heard("somebody deleted a record from the cluster; this node keeps it", key="log.log.2")
        await store.sync()
        assert await store.entries("log", 0, 10) == [Entry(1, b"true"), Entry(2, b"true too")]
        await store.append(Append("log", 3, b"on it goes"))
    # A node without a copy cannot tell what was there, and serves nothing.
    async with node(server, tmp_path / "other", bucket, log=log.logger, current=False) as other:
        await log.heard("this node does not follow the cluster now")
        with pytest.raises(StorageUnavailable, match="lacks records of log before number 3"):
            await other.last("log")


async def test_of_lines_that_overwrite_others_none_is_taken(server: Server, bucket: str, tmp_path: Path) -> None:
    log = Logbook()
    async with node(server, tmp_path / "replica", bucket, log=log.logger) as store:
        for line in (b"one", b"two"):
            await store.append(Append("trail", None, line))
        forged = pack([to_add(Append("trail", None, line)) for line in (b"forged", b"and one more")], bytes(16))
        await put(server, bucket, "log.trail.2", forged.data)
        await log.heard(
            "somebody overwrote a record in the cluster; this node keeps the first", log="trail", position=2
        )
        await store.append(Append("trail", None, b"three"))
        assert [line.value for line in await store.entries("trail", 0, 10)] == [b"one", b"two", b"three"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("log.log.1", b""),
        ("log.log.1", b"\x02" + bytes(20)),
        ("log.log.1", b"\x02" + bytes(16) + b"\0\0\0\x01a\0\0\0\xffcut"),
        ("log.log.1", b"\x03" + bytes(20)),
        ("log.log.1", b"\x01" + bytes(20) + b"\0\0\0\xffcut"),
        ("log.log.1", b"\x01" + bytes(16) + b"\0\0\0\x02" + bytes(32)),
        ("log.lo=6F.1", b"\x01" + bytes(20)),
        ("log.log.01", b"\x01" + bytes(20)),
    ],
)
async def test_what_no_writer_of_this_version_makes_stops_the_node(
    server: Server, bucket: str, tmp_path: Path, key: str, value: bytes
) -> None:
    async with node(server, tmp_path / "replica", bucket, lease=0.2) as store:
        await put(server, bucket, key, value)
        async with asyncio.timeout(WAIT):
            while "upgrade this node" not in str(store.current()):  # noqa: ASYNC110 - a lease runs out without an event
                await asyncio.sleep(0.02)
        with pytest.raises(StorageUnavailable, match="upgrade this node"):
            await store.last("log")


async def test_a_part_with_other_bytes_is_not_taken(server: Server, bucket: str, tmp_path: Path) -> None:
    async with node(server, tmp_path / "replica", bucket) as store:
        await store.append(Append("log", 1, b"v" * MIB))
    tag = (await stored(server, bucket, "log.log.1"))[1:17]
    await put(server, bucket, f"part.{b64u(tag)}.1", b"other")
    log = Logbook()
    async with node(server, tmp_path / "other", bucket, log=log.logger, current=False) as other:
        await log.heard("this node does not follow the cluster now")
        with pytest.raises(StorageUnavailable, match="with other bytes"):
            await other.last("log")


async def test_a_lost_announcement_of_a_dead_node_is_still_seen(server: Server, bucket: str, tmp_path: Path) -> None:
    async with node(server, tmp_path / "a", bucket, name="gone.for good"):
        pass
    async with node(server, tmp_path / "b", bucket, name="here") as store:
        await store.append(Append("log", 1, b"v"))
    async with node(server, tmp_path / "b", bucket, name="here") as store:
        assert set(store.nodes()) == {"gone.for good", "here"}
        await put(server, bucket, "node.gone=2Efor=20good", b"", KV_Operation="DEL")
        await store.sync()
        assert set(store.nodes()) == {"here"}
