"""Signed requests over real connections: what works, works once; what is refused claims no nonce."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.http.attacks import (
    ALICE,
    ATTACKS,
    BOB,
    BUS,
    LIMIT,
    NONCE,
    NOW,
    POST,
    STRANGER,
    Attack,
    Edit,
    Headers,
    instead,
    request,
    same,
    without,
)
from tests.http.serving import Answer, Server, raw, read_answer, serving
from yarl import URL

from unibus.crypto import httpsig
from unibus.http.auth import Authenticator


@dataclass
class Claimed:
    """The store's claims, in memory."""

    names: dict[str, int] = field(default_factory=dict)

    async def claim(self, name: str, expires_at: int) -> bool:
        if name in self.names:
            return False
        self.names[name] = expires_at
        return True

    async def look_again(self) -> None:
        return


@dataclass(frozen=True)
class Bus:
    server: Server
    claims: Claimed

    async def ask(self, sign: dict[str, Any], send: dict[str, Any], edit: Edit) -> Answer | None:
        return await self.server.send(request(self.server.host, sign, send, edit))


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    claims = Claimed()
    authenticator = Authenticator(
        claims,
        bus_id=lambda: BUS,
        is_user=lambda user: user in (ALICE.public, BOB.public),
        clock=lambda: NOW,
        body_seconds=0.3,
    )

    async def thing(request: web.Request) -> web.StreamResponse:
        caller = await authenticator.authenticate(request, LIMIT)
        return web.json_response({"user": caller.user, "body": caller.body.decode()})

    async with serving([web.route("*", "/{tail:.*}", thing)]) as server:
        yield Bus(server, claims)
        assert [entry for entry in server.log if entry["log_level"] in ("error", "critical")] == []


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_attacks_are_refused_and_claim_nothing(bus: Bus, attack: Attack) -> None:
    answer = await bus.ask(attack.sign, attack.send, attack.edit)
    assert answer is not None
    assert (answer.status, answer.problem) == (attack.status, attack.problem)
    assert answer.headers["content-type"] == "application/problem+json"
    assert bus.claims.names == {}
    # The refused attempt took nothing from the user: the genuine request, with the same nonce, still works.
    genuine = await bus.ask({}, {}, same)
    assert genuine is not None
    assert (genuine.status, genuine.members) == (200, {"user": ALICE.public, "body": ""})


async def test_a_request_works_once(bus: Bus) -> None:
    first = await bus.ask(POST, {}, same)
    assert first is not None
    assert first.members == {"user": ALICE.public, "body": "hello"}
    again = await bus.ask(POST, {}, same)
    assert again is not None
    assert (again.status, again.problem) == (401, "nonce-replayed")
    assert again.headers["www-authenticate"].startswith("Signature")
    assert list(bus.claims.names) == [f"nonce/{ALICE.public}/{NONCE}"]
    assert bus.claims.names.popitem()[1] >= NOW + 2 * httpsig.WINDOW


async def test_of_many_at_once_one_works(bus: Bus) -> None:
    answers = await asyncio.gather(*(bus.ask(POST, {}, same) for _ in range(20)))
    assert sorted(answer.status for answer in answers if answer) == [200] + [401] * 19


async def test_one_user_cannot_fill_the_memory_with_bodies_that_never_end() -> None:
    """One signature begins any number of bodies, for a nonce is claimed after its body: so their bytes are bounded."""
    begun = asyncio.Event()
    authenticator = Authenticator(
        Claimed(),
        bus_id=lambda: BUS,
        is_user=lambda _: True,
        clock=lambda: NOW,
        pace=lambda _: begun.set(),
        held_bodies=8,
    )

    async def thing(request: web.Request) -> web.StreamResponse:
        return web.json_response({"user": (await authenticator.authenticate(request, LIMIT)).user})

    async with serving([web.route("*", "/{tail:.*}", thing)]) as server:
        whole = request(server.host, POST, {}, same)
        chunked = request(
            server.host,
            POST,
            {"body": b"5\r\nhello\r\n0\r\n\r\n"},
            lambda sent: [*without("Content-Length")(sent), ("Transfer-Encoding", "chunked")],
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(whole[:-1])
        await begun.wait()
        for again in (whole, chunked):
            answer = await server.send(again)
            assert answer is not None
            assert (answer.status, answer.problem) == (429, "rate-limited")
        other = await server.send(request(server.host, {**POST, "key": BOB}, {}, same))
        assert other is not None
        assert other.members == {"user": BOB.public}
        writer.write(whole[-1:])
        first = await read_answer(reader)
        writer.close()
        assert first is not None
        assert first.members == {"user": ALICE.public}
        free = await server.send(request(server.host, {**POST, "nonce": "n" * 21 + "A"}, {}, same))
        assert free is not None
        assert free.status == 200


async def test_a_nonce_belongs_to_its_user(bus: Bus) -> None:
    for key in (ALICE, BOB):
        answer = await bus.ask({"key": key}, {}, same)
        assert answer is not None
        assert answer.members["user"] == key.public
    assert len(bus.claims.names) == 2


async def test_before_there_is_a_bus_no_signature_holds() -> None:
    claims = Claimed()
    authenticator = Authenticator(claims, bus_id=lambda: None, is_user=lambda _: True, clock=lambda: NOW)

    async def thing(request: web.Request) -> web.StreamResponse:
        await authenticator.authenticate(request)
        return web.Response()

    async with serving([web.get("/{tail:.*}", thing)]) as server:
        answer = await server.send(request(server.host, {}, {}, same))
    assert answer is not None
    assert answer.problem == "wrong-bus"
    assert claims.names == {}


@pytest.mark.parametrize(
    "refused", [{"sign": {"key": STRANGER}}, {"send": {"method": "PUT"}}], ids=["stranger", "badly signed"]
)
async def test_the_body_of_a_stranger_is_not_waited_for(bus: Bus, refused: dict[str, Any]) -> None:
    data = request(
        bus.server.host, POST | refused.get("sign", {}), refused.get("send", {}), instead("Content-Length", "900")
    )
    answer = await bus.server.send(data.removesuffix(b"hello"))
    assert answer is not None
    assert answer.status in (401, 403)


async def test_a_cut_body_claims_nothing_and_breaks_nothing(bus: Bus) -> None:
    data = request(bus.server.host, POST, {}, instead("Content-Length", "6"))
    assert await bus.server.send(data, then_close=True) is None
    assert bus.claims.names == {}
    genuine = await bus.ask(POST, {}, same)
    assert genuine is not None
    assert genuine.status == 200


@pytest.mark.parametrize(
    ("chunks", "status"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", 200),
        (b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", 200),
        (b"5\r\nhallo\r\n0\r\n\r\n", 401),
        (b"0\r\n\r\n", 401),
        (b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n", 413),
        (b"zz\r\n", 400),
        (b"ffffffffffffffffff\r\n", 400),
        (b"5\r\nhel", 408),
    ],
    ids=["one", "two", "other body", "empty", "over the limit", "no number", "number too large", "never ends"],
)
async def test_chunked_bodies(bus: Bus, chunks: bytes, status: int) -> None:
    def chunked(headers: Headers) -> Headers:
        return [*without("Content-Length")(headers), ("Transfer-Encoding", "chunked")]

    answer = await bus.server.send(request(bus.server.host, POST, {"body": b""}, chunked) + chunks)
    assert answer is not None
    assert answer.status == status
    assert len(bus.claims.names) == (status == 200)


async def test_an_empty_body_may_have_its_digest(bus: Bus) -> None:
    digest = httpsig.content_digest(b"")
    params = f'("@method" "@target-uri" "content-digest");created={NOW};nonce="{NONCE}";alg="ed25519"'
    params += f';keyid="{ALICE.public}";tag="unibus:{BUS}"'
    base = f'"@method": POST\n"@target-uri": http://h/\n"content-digest": {digest}\n"@signature-params": {params}'
    signature = b64encode(ALICE.sign(base.encode())).decode()
    headers = [
        ("Host", "h"),
        ("Content-Length", "0"),
        ("Content-Digest", digest),
        ("Signature-Input", f"unibus={params}"),
        ("Signature", f"unibus=:{signature}:"),
    ]
    answer = await bus.server.send(raw("POST", "/", headers))
    assert answer is not None
    assert answer.members == {"user": ALICE.public, "body": ""}


async def test_one_connection_carries_many_requests(bus: Bus) -> None:
    genuine = request(bus.server.host, POST, {}, same)
    reader, writer = await asyncio.open_connection("127.0.0.1", bus.server.port)
    writer.write(genuine + genuine + raw("GET", "/", [("Host", "h")]))
    answers = [await read_answer(reader) for _ in range(3)]
    writer.close()
    assert [answer and answer.problem for answer in answers] == [None, "nonce-replayed", "signature-missing"]


@pytest.mark.parametrize(
    "path", ["/plain", "/%7Ea%2Fb?q=%C3%A9&r=a+b", "/a b/ü?x=1 2", "/?", "//double//", "/a/../b", "/a;b=c,d:e@f"]
)
async def test_what_aiohttp_sends_is_what_str_url_signs(bus: Bus, path: str) -> None:
    url = URL(f"http://{bus.server.host}{path}")
    headers = httpsig.sign(ALICE, "POST", str(url), b"x", bus=BUS, created=NOW, nonce=NONCE)
    async with aiohttp.ClientSession() as session, session.post(url, data=b"x", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
