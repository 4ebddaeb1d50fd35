"""Operators with stock NATS tools: they look, and raise replicas. What else they try comes to nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js.errors import APIError

from tests.bus.stage import ROOM, WAIT, Logbook, Member, Stage, TablePolicy, can_connect
from unibus.bus.door import Refused, passed_on, raised
from unibus.bus.options import BusOptions
from unibus.bus.plane import BusPlane
from unibus.bus.stream import wanted
from unibus.crypto.encoding import dump_json
from unibus.crypto.nkeys import encode_seed
from unibus.errors import StorageUnavailable
from unibus.model.subjects import STREAM, control, events
from unibus.services.ports import Scaled

FOUND = {**wanted(1 << 20), "metadata": {"_nats.ver": "2.15.1"}}
API = "$JS.API."


async def unheard(_operator: str, _host: str, _stream: str, _replicas: int) -> None:
    """Nobody wants to hear of it."""


@asynccontextmanager
async def run(home: Path, *operators: Member, scaled: Scaled = unheard) -> AsyncIterator[Stage]:
    """A bus with these operators."""
    log, policy = Logbook(), TablePolicy()
    options = BusOptions(home, port=0, operators=tuple(one.user for one in operators))
    plane = BusPlane(options, policy, log.logger, scaled=scaled)
    await plane.start()
    try:
        yield Stage(plane, policy, log)
    finally:
        await plane.stop()


class Tool:
    """A stock NATS client with an operator's key, and nothing else that is set."""

    def __init__(self) -> None:
        self.client = Client()
        self.complaints: asyncio.Queue[str] = asyncio.Queue()

    async def refused(self) -> str:
        """The next complaint of the server."""
        async with asyncio.timeout(WAIT):
            return (await self.complaints.get()).lower()


@asynccontextmanager
async def tool(port: int, operator: Member) -> AsyncIterator[Tool]:
    """Connected."""
    made, closed = Tool(), asyncio.Event()

    async def complain(error: Exception) -> None:
        made.complaints.put_nowait(str(error))

    async def close() -> None:
        closed.set()

    seed = encode_seed("U", operator.key.seed)
    url = f"nats://127.0.0.1:{port}"
    await made.client.connect(url, nkeys_seed_str=seed, allow_reconnect=False, error_cb=complain, closed_cb=close)
    try:
        yield made
    finally:
        await made.client.close()
        await closed.wait()


@pytest.mark.parametrize(
    ("call", "data", "asked"),
    [
        ("INFO", b"", None),
        ("STREAM.INFO.ROOMS", b'{"subjects_filter":">","deleted_details":true}', None),
        ("STREAM.LEADER.STEPDOWN.ROOMS", b'{"placement":{"preferred":"n2"}}', None),
        ("STREAM.LIST", b"", None),
        ("STREAM.LIST", b'{"offset":0,"subject":"room.>"}', None),
        ("STREAM.NAMES", b'{"offset":256,"subject":"room.>"}', {"offset": 256}),
        ("STREAM.NAMES", b'{"offset":true}', None),
    ],
)
def test_what_is_asked_of_jetstream_for_an_operator(call: str, data: bytes, asked: object) -> None:
    assert passed_on(call, data) == asked


@pytest.mark.parametrize(
    ("call", "data"),
    [
        ("STREAM.UPDATE.ROOMS", b"{}"),
        ("STREAM.PURGE.ROOMS", b""),
        ("STREAM.DELETE.ROOMS", b""),
        ("STREAM.MSG.GET.ROOMS", b'{"seq":1}'),
        ("STREAM.INFO.", b""),
        ("STREAM.INFO.ROOMS.x", b""),
        ("CONSUMER.CREATE.ROOMS", b""),
        ("CONSUMER.LIST.ROOMS", b""),
        ("", b""),
        ("STREAM.NAMES", b"[]"),
        ("STREAM.NAMES", b"\xff"),
        ("STREAM.NAMES", b"[" * 100_000),
    ],
)
def test_what_is_not(call: str, data: bytes) -> None:
    with pytest.raises(Refused):
        passed_on(call, data)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"name": STREAM, "sealed": False, "max_age": 0, "mirror": None, "sources": [], "republish": None},
        {"metadata": {"_nats.req.level": "0"}, "consumer_limits": {}, "subject_transform": {"src": ""}},
        {"pedantic": True, "allow_direct": None},
        FOUND,
    ],
)
def test_replicas_are_raised_and_nothing_else_changes(said: Mapping[str, object]) -> None:
    assert raised(FOUND, dump_json({**said, "num_replicas": 3})) == {**FOUND, "num_replicas": 3}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"subjects": ["room.>"]}, "subjects is the daemon's to choose"),
        ({"republish": {"src": ">", "dest": "_INBOX.x.>"}}, "republish"),
        ({"sources": [{"name": "KV_unibus"}]}, "sources"),
        ({"mirror": {"name": "KV_unibus"}}, "mirror"),
        ({"max_msgs": 1}, "max_msgs"),
        ({"max_age": 1}, "max_age"),
        ({"max_consumers": 0}, "max_consumers"),
        ({"duplicate_window": 0}, "duplicate_window"),
        ({"discard": "old"}, "discard"),
        ({"sealed": True}, "sealed"),
        ({"allow_rollup_hdrs": True}, "allow_rollup_hdrs"),
        ({"metadata": {"mine": "1"}}, "metadata"),
        ({"placement": {"tags": ["slow"]}}, "placement"),
        ({"unheard_of": {"by": "us"}}, "unheard_of"),
        ({"num_replicas": 2}, "on 1, 3 or 5 nodes, not on 2"),
        ({"num_replicas": None}, "not on null"),
        ({"num_replicas": "3"}, "not on"),
        ({"num_replicas": 3.0}, "not on"),
        ({"num_replicas": True}, "not on true"),
    ],
)
def test_any_other_change_is_refused(said: Mapping[str, object], told: str) -> None:
    with pytest.raises(Refused, match=told):
        raised(FOUND, dump_json({"num_replicas": 3, **said}))


def test_replicas_are_not_lowered() -> None:
    with pytest.raises(Refused, match="kept on 3 nodes now"):
        raised({**FOUND, "num_replicas": 3}, dump_json({"num_replicas": 1}))


async def test_a_stock_client_looks_at_streams_and_changes_none(tmp_path: Path) -> None:
    operator = Member()
    async with run(tmp_path, operator) as stage, tool(stage.plane.client_port, operator) as made:
        assert stage.plane.status()["operator"] is True
        alice = stage.member(ROOM)
        async with stage.connect(alice) as a:
            await a.publish()
        stock = made.client.jetstream()
        before = await stock.stream_info(STREAM, subjects_filter=">")
        assert before.state.messages == 1
        assert before.state.subjects is None
        assert [one.config.name for one in await stock.streams_info()] == [STREAM]
        assert (await stock.account_info()).streams == 1
        assert (await stock.update_stream(before.config)).config == before.config
        with pytest.raises(APIError, match="not supported in non-clustered mode"):
            await stock.update_stream(before.config, num_replicas=3)
        for change in ({"max_age": 1.0}, {"subjects": ["room.>", "more"]}, {"max_msgs": 1}, {"num_replicas": 2}):
            with pytest.raises(APIError, match="unibus: "):
                await stock.update_stream(before.config, **change)
        with pytest.raises(APIError, match="stream not found"):
            await stock.stream_info("KV_other")
        assert await stock.stream_info(STREAM) == before


FORBIDDEN = (
    *(f"{API}STREAM.{call}.{STREAM}" for call in ("CREATE", "DELETE", "PURGE", "SNAPSHOT", "RESTORE")),
    *(f"{API}STREAM.{call}.{STREAM}" for call in ("MSG.GET", "MSG.DELETE", "PEER.REMOVE")),
    *(f"{API}{call}.{STREAM}" for call in ("DIRECT.GET", "CONSUMER.CREATE", "CONSUMER.LIST", "CONSUMER.NAMES")),
    f"{API}CONSUMER.MSG.NEXT.{STREAM}.x",
    f"{API}META.LEADER.STEPDOWN",
    f"room.{ROOM}.msg.UX",
    control("UX", "deliver"),
    events("UX"),
    "ops.alone.STREAM.UPDATE.ROOMS",
    "$KV.unibus.x",
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.USER.AUTH",
    "_INBOX.x",
)


async def test_an_operator_may_ask_nothing_else(tmp_path: Path) -> None:
    operator = Member()
    async with run(tmp_path, operator) as stage, tool(stage.plane.client_port, operator) as made:
        for subject in FORBIDDEN:
            await made.client.publish(subject, b"{}")
            told = await made.refused()
            assert "permissions violation" in told
            assert subject.lower() in told


async def test_what_changes_is_noted_first_and_by_whom_is_not_for_the_tool_to_say(tmp_path: Path) -> None:
    operator, another = Member(), Member()
    noted: list[tuple[str, str, str, int]] = []
    taken = asyncio.Event()

    async def note(*what: object) -> None:
        if not taken.is_set():
            raise StorageUnavailable("no room")
        noted.append(what)  # type: ignore[arg-type]  # it is called as `Scaled` says

    async with (
        run(tmp_path, operator, another, scaled=note) as stage,
        tool(stage.plane.client_port, operator) as made,
    ):
        lie = {"Nats-Request-Info": json.dumps({"user": another.user, "host": "192.0.2.1"})}
        wanted_three = dump_json({"num_replicas": 3})
        refused = await made.client.request(f"{API}STREAM.UPDATE.{STREAM}", wanted_three, headers=lie, timeout=WAIT)
        assert "temporarily unavailable" in refused.data.decode()
        taken.set()
        refused = await made.client.request(f"{API}STREAM.UPDATE.{STREAM}", wanted_three, headers=lie, timeout=WAIT)
        assert "not supported in non-clustered mode" in refused.data.decode()
        assert noted == [(operator.user, "127.0.0.1", STREAM, 3)]


async def test_an_operator_hears_nothing_of_the_bus(tmp_path: Path) -> None:
    operator = Member()
    async with run(tmp_path, operator) as stage, tool(stage.plane.client_port, operator) as made:
        for subject in (">", "room.>", "dlv.>", "ev.>", "_INBOX_UX.>", "unibus.feed.>", "$SYS.>", f"{API}>"):
            await made.client.subscribe(subject)
            assert "permissions violation" in await made.refused(), subject


async def test_an_answer_sent_on_as_a_request_changes_nothing(tmp_path: Path) -> None:
    """What JetStream answers goes to any reply subject. In its own account that purges a stream; not from here."""
    operator = Member()
    async with run(tmp_path, operator) as stage, tool(stage.plane.client_port, operator) as made:
        alice = stage.member(ROOM)
        async with stage.connect(alice) as a:
            await a.publish()
            before = await made.client.jetstream().stream_info(STREAM)
            for asked in ("INFO", f"STREAM.INFO.{STREAM}", "STREAM.LIST", f"STREAM.UPDATE.{STREAM}"):
                for call in ("PURGE", "DELETE", "UPDATE", "CREATE"):
                    for target in (f"{API}STREAM.{call}.{STREAM}", f"ops.alone.STREAM.{call}.{STREAM}"):
                        await made.client.publish(f"{API}{asked}", b"", reply=target)
                await made.client.publish(f"{API}{asked}", b"", reply=alice.sender())
            await made.client.flush()
            assert await made.client.jetstream().stream_info(STREAM) == before
            assert (await a.publish())["seq"] == 2


async def test_nobody_who_is_not_named_is_an_operator(tmp_path: Path) -> None:
    stranger = Member()
    async with run(tmp_path) as stage:
        assert stage.plane.status()["operator"] is False
        assert not await can_connect(stage, stranger)
    async with run(tmp_path, Member()) as stage:
        assert not await can_connect(stage, stranger)
        async with stage.connect(stage.member(ROOM)) as member:
            for subject in (f"{API}STREAM.INFO.{STREAM}", "ops.alone.INFO"):
                await member.client.publish(subject)
                assert "permissions violation" in (await member.refused()).lower()
