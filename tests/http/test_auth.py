"""Signed requests over real connections: what works, works once; what is refused claims no nonce."""

import asyncio
import secrets
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
    INPUT,
    LIMIT,
    NONCE,
    NOW,
    POST,
    STRANGER,
    Attack,
    Edit,
    Headers,
    instead,
    plus,
    put,
    request,
    same,
    without,
)
from tests.http.serving import Answer, Server, raw, read_answer, serving
from yarl import URL

from unibus.crypto import httpsig
from unibus.errors import NoQuorum, UnibusError
from unibus.http.auth import Authenticator
from unibus.http.nonces import HEADER, ServerNonces


@dataclass
class Claimed:
    """The store's claims, in memory. `trouble` is why the store cannot serve."""

    names: dict[str, int] = field(default_factory=dict)
    trouble: UnibusError | None = None

    async def claim(self, name: str, expires_at: int) -> bool:
        if name in self.names:
            return False
        self.names[name] = expires_at
        return True

    async def catch_up(self) -> None:
        if self.trouble is not None:
            raise self.trouble


def some_nonces(most: int = 1000) -> ServerNonces:
    return ServerNonces(secrets.token_bytes, lambda: 0.0, most=most)


@dataclass(frozen=True)
class Bus:
    server: Server
    claims: Claimed
    nonces: ServerNonces
    paced: list[str]
    """Who asked, for each request that counts."""

    def named(self, number: int = 0) -> dict[str, Any]:
        """What signs a request that names the node's newest nonce, beside one of its own of this `number`."""
        return {"nonce": f"{number:022}", "server_nonce": self.nonces.newest()}

    async def told(self, sign: dict[str, Any]) -> tuple[int, str | None]:
        """The status and the problem's code of a request."""
        answer = await self.ask(sign, {}, same)
        assert answer is not None
        return answer.status, answer.problem

    async def ask(self, sign: dict[str, Any], send: dict[str, Any], edit: Edit) -> Answer | None:
        return await self.server.send(request(self.server.host, sign, send, edit))


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    claims, nonces, paced = Claimed(), some_nonces(most=4), list[str]()
    authenticator = Authenticator(
        claims,
        nonces,
        bus_id=lambda: BUS,
        is_user=lambda user: user in (ALICE.public, BOB.public),
        clock=lambda: NOW,
        body_seconds=0.3,
        pace=paced.append,
        unpace=paced.remove,
    )

    async def thing(request: web.Request) -> web.StreamResponse:
        caller = await authenticator.authenticate(request, LIMIT)
        return web.json_response({"user": caller.user, "body": caller.body.decode()})

    async with serving([web.route("*", "/{tail:.*}", thing)], nonces=nonces) as server:
        yield Bus(server, claims, nonces, paced)
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


async def test_a_request_that_names_the_nodes_nonce_works_once_and_writes_nothing(bus: Bus) -> None:
    request = POST | bus.named()
    assert await bus.told(request) == (200, None)
    assert await bus.told(request) == (401, "nonce-replayed")
    assert bus.claims.names == {}
    assert bus.paced == [ALICE.public]  # the replay was not hers


async def test_of_many_that_name_the_nodes_nonce_one_works(bus: Bus) -> None:
    request = POST | bus.named()
    answers = await asyncio.gather(*(bus.told(request) for _ in range(20)))
    assert sorted(status for status, _ in answers) == [200] + [401] * 19


async def test_with_and_without_the_nodes_nonce_are_two_requests_and_so_two_claims(bus: Bus) -> None:
    named = bus.named()
    for sign in ({"nonce": named["nonce"]}, named):
        assert await bus.told(sign) == (200, None)
        assert await bus.told(sign) == (401, "nonce-replayed")
    assert list(bus.claims.names) == [f"nonce/{ALICE.public}/{named['nonce']}"]


async def test_a_replay_is_refused_under_the_next_nonce_and_under_the_one_after(bus: Bus) -> None:
    """A user who floods has others sign once more; nothing of anybody's is taken twice."""
    captured, meanwhile = bus.named(), bus.named(1)
    assert await bus.told(captured) == (200, None)
    outcomes = []
    for number in range(10):
        assert await bus.told({"key": BOB} | bus.named(100 + number)) == (200, None)
        outcomes.append((await bus.told(captured))[1])
    assert outcomes == ["nonce-replayed"] * 6 + ["nonce-unknown"] * 4
    paced = len(bus.paced)
    assert await bus.told(meanwhile) == (401, "nonce-unknown")
    assert len(bus.paced) == paced  # nor does it use up what she may ask
    assert await bus.told(bus.named(1)) == (200, None)


async def test_every_answer_names_the_nodes_newest_nonce(bus: Bus) -> None:
    for sign, send, status in [
        (bus.named(), {}, 200),
        ({"server_nonce": "B" * 22}, {}, 401),
        ({"key": STRANGER}, {}, 403),
        ({}, {"host": "a/b"}, 400),
    ]:
        answer = await bus.ask(sign, send, same)
        assert answer is not None
        assert (answer.status, answer.headers[HEADER.lower()]) == (status, bus.nonces.newest())


async def test_a_body_is_not_waited_for_where_the_nonce_is_not_known(bus: Bus) -> None:
    data = request(bus.server.host, POST | {"server_nonce": "B" * 22}, {}, instead("Content-Length", "900"))
    answer = await bus.server.send(data.removesuffix(b"hello"))
    assert answer is not None
    assert (answer.status, answer.problem) == (401, "nonce-unknown")


async def test_a_nodes_nonce_put_into_what_was_signed_makes_it_another_request(bus: Bus) -> None:
    answer = await bus.ask({}, {}, put(INPUT, NONCE, f"{NONCE}.{bus.nonces.newest()}"))
    assert answer is not None
    assert (answer.status, answer.problem) == (401, "signature-invalid")


async def test_of_a_copy_no_body_is_waited_for(bus: Bus) -> None:
    sign = POST | bus.named()
    assert await bus.told(sign) == (200, None)
    copy = request(bus.server.host, sign, {}, instead("Content-Length", "900"))
    answer = await bus.server.send(copy)
    assert answer is not None
    assert (answer.status, answer.problem) == (401, "nonce-replayed")
    assert bus.paced == [ALICE.public]


OTHER_BODIES: dict[str, tuple[dict[str, Any], Edit]] = {
    "another": ({"body": b"hallo"}, same),
    "too large": ({}, instead("Content-Length", str(LIMIT + 1))),
    "never whole": ({}, instead("Content-Length", "6")),
    "coded": ({}, plus("Content-Encoding", "gzip")),
}


@pytest.mark.parametrize(("send", "edit"), OTHER_BODIES.values(), ids=OTHER_BODIES)
async def test_who_repeats_headers_with_another_body_takes_nothing_from_their_signer(
    bus: Bus, send: dict[str, Any], edit: Edit
) -> None:
    answer = await bus.ask(POST, send, edit)
    assert answer is not None
    assert answer.status in (400, 401, 408, 413)
    assert bus.paced == []


async def test_a_body_that_is_cut_or_another_has_claimed_no_nonce(bus: Bus) -> None:
    sign = POST | bus.named()
    cut = request(bus.server.host, sign, {}, instead("Content-Length", "6"))
    assert await bus.server.send(cut, then_close=True) is None
    other = await bus.ask(sign, {"body": b"hallo"}, same)
    assert other is not None
    assert other.problem == "signature-invalid"
    assert await bus.told(sign) == (200, None)


async def test_what_cannot_be_decided_on_the_newest_state_is_not_answered(bus: Bus) -> None:
    """No claim in the store finds out any more that this node is cut off from the others: catching up does."""
    bus.claims.trouble = NoQuorum("cut off")
    assert await bus.told(bus.named()) == (503, "no-quorum")
    bus.claims.trouble = None
    assert await bus.told(bus.named()) == (401, "nonce-replayed")
    assert await bus.told(bus.named(1)) == (200, None)


async def test_one_user_cannot_fill_the_memory_with_bodies_that_never_end() -> None:
    """One signature begins any number of bodies, for a nonce is claimed after its body: so their bytes are bounded."""
    begun = asyncio.Event()
    authenticator = Authenticator(
        Claimed(),
        some_nonces(),
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
    authenticator = Authenticator(claims, some_nonces(), bus_id=lambda: None, is_user=lambda _: True, clock=lambda: NOW)

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
