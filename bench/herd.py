"""Very many users who stay connected and come back when they are cut off: a process of its own, and cheap ones.

Run as `python -m bench.herd KIND PORT COUNT SECRET`; prints `up {…}` as soon as all are up, and again whenever all are
up again. Of each user there is no more than a connection, but it behaves like the client library's: it waits as that
does before each try (`unibus.client.backoff`); it asks the control plane where the bus is, logs in, and reads what is
new in the directory, where KIND is `unibus` and PORT the control plane's; where it is `nats`, it logs in. The secret is
one that is thrown away with the benchmark: one that matters is never an argument.
"""

import asyncio
import gc
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import uvloop
from yarl import URL

from bench.harness import percentile
from bench.load import request
from bench.wire import Refused, Wire, connect
from unibus.client.backoff import delays
from unibus.client.connection import CONNECT_SECONDS
from unibus.crypto.encoding import b64u
from unibus.crypto.httpsig import NONCE_HEADER, sign
from unibus.crypto.identity import Identity

FIRST_A_SECOND = 400  # come at the beginning: that is not what is measured


def identities(secret: bytes, count: int) -> list[Identity]:
    """The users that a herd with `secret` is made of."""
    return [Identity.from_secret(hashlib.sha256(secret + n.to_bytes(4, "big")).digest()) for n in range(count)]


@dataclass(frozen=True, slots=True)
class Up:
    """All are up. When the first, half, 99 % and the last of `count` came: `time.monotonic`, the same in all processes.

    `tries` were made for it, of which `refused` reached the bus and were not let in.
    """

    first: float
    half: float
    most: float
    last: float
    count: int
    tries: int
    refused: int


def all_up(came: Sequence[float], tries: int, refused: int) -> Up:
    """What is to be said of those who came at these times."""
    first, half, most, last = (percentile(came, share) for share in (0.0, 0.5, 0.99, 1.0))
    return Up(first, half, most, last, len(came), tries, refused)


class Herd:
    """All users of one server."""

    def __init__(self, url: URL | None, nats_port: int, users: Sequence[Identity]) -> None:
        self._url = url
        self._nats_port = nats_port
        self._users = users
        self._up = self._tries = self._refused = 0
        self._back: dict[int, float] = {}

    async def keep_up(self, number: int) -> None:
        """Be one of the users, without end."""
        user = self._users[number]
        await asyncio.sleep(number / FIRST_A_SECOND)
        while True:
            wire = await self._come_back(user)
            self._back[number] = time.monotonic()
            self._up += 1
            if self._up == len(self._users):
                self._report()
            await wire.ended()
            wire.close()
            self._up -= 1

    def _report(self) -> None:
        print("up", json.dumps(asdict(all_up([*self._back.values()], self._tries, self._refused))), flush=True)
        self._back.clear()
        self._tries = self._refused = 0

    async def _come_back(self, user: Identity) -> Wire:
        for pause in delays():
            await asyncio.sleep(pause)
            self._tries += 1
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await self._try(user)
            except Refused:
                self._refused += 1
            except (OSError, TimeoutError):
                pass
        raise AssertionError

    async def _try(self, user: Identity) -> Wire:
        if self._url is None:
            return await connect(self._nats_port, user.signing, [])
        head, body = await answer(self._url / "v1/bus", {})
        told, given = json.loads(body), nonce_in(head)
        try:
            wire = await connect(int(told["nats_port"]), user.signing, [])
        except Refused:
            await self._news(user, told["bus"], given)  # is this user still on the bus?
            raise
        try:
            await self._news(user, told["bus"], given)
        except BaseException:
            wire.close()
            raise
        return wire

    async def _news(self, user: Identity, bus: str, given: str) -> None:
        assert self._url is not None
        target = self._url / "v1/directory/records" % {"after": str(len(self._users) + 1)}
        now, nonce = int(time.time()), b64u(os.urandom(16))
        key = user.signing
        await answer(target, sign(key, "GET", str(target), b"", bus=bus, created=now, nonce=nonce, server_nonce=given))


def nonce_in(head: bytes) -> str:
    """The node's own nonce in the head of an answer."""
    return head.partition(f"\r\n{NONCE_HEADER}: ".encode())[2].partition(b"\r\n")[0].decode("ascii")


async def answer(target: URL, headers: dict[str, str]) -> tuple[bytes, bytes]:
    """Head and body of the answer to one request. Raises OSError, also for any answer but 200."""
    assert target.host is not None
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        writer.write(request("GET", target, {**headers, "Connection": "close"}))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.transport.abort()
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ConnectionError(head.partition(b"\r\n")[0].decode(errors="replace") or "no answer")
    return head, body


async def main(kind: str, port: int, count: int, secret: bytes) -> None:
    """Keep all of them up, without end."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    url = URL(f"http://127.0.0.1:{port}") if kind == "unibus" else None
    herd = Herd(url, port, identities(secret, count))
    gc.freeze()
    await asyncio.gather(*(herd.keep_up(number) for number in range(count)))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), bytes.fromhex(sys.argv[4])))
