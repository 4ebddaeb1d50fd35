"""Publishes with headers as no library writes them: a member's connection by hand, and all that JetStream looks at."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bus.stage import OTHER_ROOM, WAIT, Member, signed
from unibus.model import subjects

STOPS = b"NATS/1.0\r\nNats-Expected-Last-Msg-Id: nobody's\r\n\r\n"
"""The one that stops a stream with several replicas, with nats-server 2.14 and 2.15."""


ODD = {
    "a status": b"NATS/1.0 503\r\n\r\n",
    "a status, cut": b"NATS/1.0 503\r\nXX",
    "a status and more": b"NATS/1.0 503\r\nX: y\r\n\r\n",
    "a heartbeat ahead": b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 99\r\n\r\n",
    "a status of no number": b"NATS/1.0 abc\r\n\r\n",
    "a status that is no text": b"NATS/1.0 \xff\xff\xff\r\n\r\n",
    "a status that is no text, cut": b"NATS/1.0 \xff\xff\xffXX",
    "a reason that is no text": b"NATS/1.0 100 \xff\r\n\r\n",
    "a value that is no text": b"NATS/1.0\r\nX: \xff\r\n\r\n",
    "a line without a colon": b"NATS/1.0\r\nX\r\n\r\n",
    "a status by name": b"NATS/1.0\r\nStatus: 503\r\n\r\n",
    "nothing but the version": b"NATS/1.0",
    "less than that": b"NATS",
    "a blank": b"NATS/1.0 ",
}
"""Header blocks that a client's library may stumble over."""
ODD_REPLIES = [b"\xff\xfe", b"a\x0bb", b"5\x0c7", b"a\x85b", b"a\x00b", b"a..b", b"x" * 30_000]
"""Reply subjects of the same kind."""


def headers(*pairs: tuple[str, str]) -> bytes:
    return b"NATS/1.0\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in pairs) + b"\r\n"


class RawMember:
    """A member's connection, written by hand."""

    def __init__(self, member: Member, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.member, self._reader, self._writer = member, reader, writer

    async def publish(self, block: bytes, body: bytes = b"x", reply: str | bytes = b"", subject: str = "") -> None:
        """Publish on `subject`, else into ROOM; returns when the server has dealt with it, or ended the connection."""
        to = (subject or self.member.sender()).encode()
        way = b" ".join(each for each in (to, reply if isinstance(reply, bytes) else reply.encode()) if each)
        head = b"HPUB %b %d %d\r\n" % (way, len(block), len(block) + len(body))
        self._writer.write(head + block + body + b"\r\nPING\r\n")
        async with asyncio.timeout(WAIT):
            while (line := await self._reader.readline()) and not line.startswith(b"PONG"):
                pass


@asynccontextmanager
async def raw_member(port: int, member: Member) -> AsyncIterator[RawMember]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        info = json.loads((await reader.readline()).removeprefix(b"INFO "))
        told = {"verbose": False, "headers": True, "no_responders": True, "lang": "test", "version": "1", "protocol": 1}
        login = json.dumps({**told, **signed(member, info["nonce"])}).encode()
        writer.write(b"CONNECT " + login + b"\r\nPING\r\n")
        while not (line := await reader.readline()).startswith(b"PONG"):
            assert line, "not let in"
        yield RawMember(member, reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def rows(member: Member) -> dict[str, bytes]:
    """Header blocks by name: none of them may stop anybody."""
    own = member.sender()
    other = subjects.room_messages(OTHER_ROOM, member.user)
    fast = json.dumps({"acc": "BUS", "reply": f"{subjects.inbox_prefix(member.user)}.id.10.fail.1.0.$FI"})
    single = {
        "Nats-Expected-Stream": ("ROOMS", "OTHER", ""),
        "Nats-Expected-Last-Sequence": ("0", "99", "-1", "x", "18446744073709551615"),
        "Nats-Expected-Last-Subject-Sequence": ("0", "99", "x"),
        "Nats-Expected-Last-Subject-Sequence-Subject": (other, ">"),
        "Nats-Expected-Last-Msg-Id": ("",),
        "nats-expected-last-msg-id": ("x",),
        "Nats-Msg-Id": ("once", "once", "", "x" * 4096),
        "Nats-Rollup": ("all", "sub", "x"),
        "Nats-TTL": ("1s", "never", "-1", "x", "0"),
        "Nats-Schedule": ("@every 1s", "@at 2030-01-01T00:00:00Z", "x"),
        "Nats-Schedule-Next": ("purge", "2030-01-01T00:00:00Z"),
        "Nats-Schedule-Target": (other,),
        "Nats-Schedule-Source": (other,),
        "Nats-Schedule-TTL": ("1s", "x"),
        "Nats-Scheduler": (own, other),
        "Nats-Incr": ("1", "x"),
        "Nats-Counter-Sources": ("{}",),
        "Nats-Batch-Id": ("x", "x" * 65),
        "Nats-Batch-Sequence": ("1", "x"),
        "Nats-Batch-Commit": ("1", "eob"),
        "Nats-Marker-Reason": ("MaxAge", "Purge"),
        "Nats-Required-Api-Level": ("0", "99", "x"),
        "Nats-Stream-Source": ("ROOMS 1", "x"),
        "Nats-Request-Info": (fast, "{", "{}"),
        "Nats-Trace-Dest": (own, other, "trace disabled"),
        "KV-Operation": ("PURGE",),
        "Status": ("100", "503"),
    }
    named = {
        f"{name}: {value[:20]}": headers((name, value))  # a line for each
        for name, values in single.items()
        for value in values
    }
    return named | {
        "an id twice": headers(("Nats-Msg-Id", "a"), ("Nats-Msg-Id", "b")),
        "a batch": headers(("Nats-Batch-Id", "b"), ("Nats-Batch-Sequence", "1"), ("Nats-Batch-Commit", "1")),
        "a batch that expects": headers(
            ("Nats-Batch-Id", "b"), ("Nats-Batch-Sequence", "1"), ("Nats-Expected-Last-Msg-Id", "x")
        ),
        "a schedule": headers(("Nats-Schedule", "@every 1s"), ("Nats-Schedule-Target", other)),
        "a trace alone that expects": headers(
            ("Nats-Trace-Dest", own), ("Nats-Trace-Only", "true"), ("Nats-Expected-Last-Msg-Id", "x")
        ),
        "a counter that expects": headers(("Nats-Incr", "1"), ("Nats-Expected-Last-Msg-Id", "x")),
        "flow control": b"NATS/1.0 100 FlowControl Request\r\n\r\n",
        "a heartbeat": b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\nNats-Consumer-Stalled: $JS.X\r\n\r\n",
        "no responders": b"NATS/1.0 503\r\n\r\n",
        "an empty block": b"NATS/1.0\r\n\r\n",
        "no end": b"NATS/1.0\r\nNats-Msg-Id: x",
        "no version": b"Nats-Msg-Id: x\r\n\r\n",
        "garbage": b"NATS/1.0 \x00\xff\r\n:\r\n\r\n\r\n",
        "the name alone": b"NATS/1.0\r\nNats-Expected-Last-Msg-Id",
        "65 KB": headers(("X", "x" * 66_000)),
        "as much as fits": headers(("X", "x" * 65_500)),
    }
