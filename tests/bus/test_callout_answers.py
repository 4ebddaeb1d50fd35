"""Answers to the auth callout that the server must not take, and logins by tokens that nobody but the daemon may make.

The test holds the bus's own keys, so it can say in the daemon's place what an attacker might: an old answer again, one
of another issuer, one without permissions.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from tests.bus.stage import ROOM, WAIT, Connection, Member, can_connect, login_of, shake_hands, signed
from tests.bus.watched import Watched, watched
from unibus.bus import callout_core as core
from unibus.bus import natsjwt
from unibus.bus.config import AUTH_TIMEOUT, MEMBERS
from unibus.bus.keys import BusKeys
from unibus.bus.permissions import Permissions
from unibus.crypto.nkeys import SigningKey
from unibus.model import subjects

NOW = 1_800_000_000
REFUSED = "-ERR 'Authorization Violation'"
DECIDE_WITHIN = AUTH_TIMEOUT * 0.75  # seconds after which the daemon, whose policy waits, refuses by itself
NOTHING: Mapping[str, object] = {"pub": {"allow": []}, "sub": {"allow": []}}


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Watched]:
    async with watched(tmp_path) as bus:
        yield bus


@dataclass
class Place:
    """The daemon's place in the account where callouts are asked. The daemon itself is slow to decide meanwhile."""

    bus: Watched
    server: str
    asked: asyncio.Queue[Msg] = field(default_factory=asyncio.Queue)
    answers: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)

    async def hear(self, message: Msg) -> None:
        if message.subject == core.SUBJECT:
            self.asked.put_nowait(message)
        elif message.data.startswith(b"xkv1"):
            self.answers.put_nowait(message.data)

    async def question(self) -> tuple[Msg, core.Attempt]:
        """The next question, and what the daemon reads in it."""
        async with asyncio.timeout(WAIT):
            message = await self.asked.get()
        reply_to = (message.headers or {})[core.XKEY_HEADER]
        return message, core.read_request(message.data, reply_to, self.bus.keys, self.server, 0)

    def sealed(self, answer: str, attempt: core.Attempt) -> bytes:
        """`answer` as the daemon would encrypt it."""
        return core.seal(answer, attempt.reply_to, self.bus.keys.curve, os.urandom(24))


@asynccontextmanager
async def in_the_daemons_place(bus: Watched) -> AsyncIterator[Place]:
    async with bus.inside(bus.keys.auth) as client:
        place = Place(bus, await server_id(bus.stage.plane.client_port))
        await client.subscribe(">", cb=place.hear)
        await client.flush()
        yield place


async def server_id(port: int) -> str:
    """What the server calls itself (`N…`)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    info = json.loads((await reader.readline()).removeprefix(b"INFO "))
    writer.close()
    await writer.wait_closed()
    return str(info["server_id"])


async def soon(entering: asyncio.Task[str]) -> str:
    """The server's word, said before the daemon would have decided: it is about the answer given in its place."""
    async with asyncio.timeout(DECIDE_WITHIN / 2):
        return await entering


Forge = Callable[[core.Attempt, BusKeys], str]
ALL = Permissions((">",), (">",))
FORGERIES: Mapping[str, Forge] = {
    "another issuer": lambda attempt, _: core.approval(attempt, ALL, BusKeys.generate(os.urandom), NOW),
    "another connection": lambda attempt, keys: core.approval(replace(attempt, one_time=Member().user), ALL, keys, NOW),
    "another server": lambda attempt, keys: core.approval(
        replace(attempt, server=SigningKey.from_seed(os.urandom(32), "N").public), ALL, keys, NOW
    ),
    "a refusal": lambda attempt, keys: core.refusal(attempt, "no", keys, NOW),
    "no token": lambda _attempt, _keys: "e30.e30.e30",
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_an_answer_that_is_not_the_daemons_to_this_question_lets_nobody_in(bus: Watched, forgery: str) -> None:
    member = bus.stage.member(ROOM)
    bus.stage.policy.gate.clear()
    async with in_the_daemons_place(bus) as place:
        entering = asyncio.create_task(shake_hands(bus.stage.plane.client_port, login_of(member)))
        message, attempt = await place.question()
        await message.respond(place.sealed(FORGERIES[forgery](attempt, bus.keys), attempt))
        assert await soon(entering) == REFUSED
    bus.stage.policy.gate.set()


async def test_the_right_answer_from_the_daemons_place_is_taken(bus: Watched) -> None:
    """So that the refusals around it are not for another reason; and who has the bus's keys is the bus."""
    bus.stage.policy.gate.clear()
    async with in_the_daemons_place(bus) as place:
        entering = asyncio.create_task(shake_hands(bus.stage.plane.client_port, login_of(bus.stage.member(ROOM))))
        message, attempt = await place.question()
        await message.respond(place.sealed(core.approval(attempt, ALL, bus.keys, NOW), attempt))
        assert await soon(entering) == "PONG"
    bus.stage.policy.gate.set()


async def test_an_answer_that_was_given_before_lets_nobody_in(bus: Watched) -> None:
    """The daemon's own approval of a member, recorded and played to the server for another and for the member."""
    alice, mallory = bus.stage.member(ROOM), bus.stage.member(ROOM)
    async with in_the_daemons_place(bus) as place:
        assert await can_connect(bus.stage, alice)
        await place.question()
        async with asyncio.timeout(WAIT):
            recorded = await place.answers.get()
        bus.stage.policy.gate.clear()
        for who in (mallory, alice):
            entering = asyncio.create_task(shake_hands(bus.stage.plane.client_port, login_of(who)))
            message, _ = await place.question()
            await message.respond(recorded)
            assert await soon(entering) == REFUSED
    bus.stage.policy.gate.set()


async def test_nothing_allowed_is_nothing_and_an_empty_list_would_be_everything(bus: Watched) -> None:
    """Why permissions are never an empty list: the same connection, told in two ways that it may touch nothing."""
    assert await touch(bus, lambda attempt: core.approval(attempt, Permissions((), ()), bus.keys, NOW)) == 2
    assert await touch(bus, lambda attempt: approval_with(attempt, NOTHING, bus.keys)) == 0


async def touch(bus: Watched, answer: Callable[[core.Attempt], str]) -> int:
    """How many of two things a connection that was let in by `answer` is refused."""
    bus.stage.policy.gate.clear()
    connection = Connection(bus.stage.member())
    async with in_the_daemons_place(bus) as place:
        entering = asyncio.create_task(connection.open(bus.stage.plane.client_port, None))
        message, attempt = await place.question()
        await message.respond(place.sealed(answer(attempt), attempt))
        await entering
    try:
        await connection.client.publish("anything", b"")
        await connection.client.subscribe("anything.else")
        for _ in range(3):  # what the client was told of the first round, it has passed on by the end of the next
            await connection.client.flush()
        return connection.complaints.qsize()
    finally:
        await connection.client.close()
        bus.stage.policy.gate.set()


def approval_with(attempt: core.Attempt, permissions: Mapping[str, object], keys: BusKeys) -> str:
    """An approval whose permissions are written as given."""
    nats = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, **permissions}
    user = {"iat": NOW, "sub": attempt.one_time, "aud": MEMBERS, "name": "x", "nats": nats}
    verdict = {"type": "authorization_response", "version": 2, "jwt": natsjwt.sign(user, keys.issuer)}
    return natsjwt.sign({"iat": NOW, "sub": attempt.one_time, "aud": attempt.server, "nats": verdict}, keys.issuer)


def own_token(member: Member, account: str, issuer: SigningKey, **claims: object) -> str:
    """A token by which `member` makes itself a user of `account` who may do everything."""
    nats = {"type": "user", "version": 2, "pub": {"allow": [">"]}, "sub": {"allow": [">"]}, "subs": -1, "data": -1}
    return natsjwt.sign({"iat": NOW, "sub": member.user, "aud": account, "name": "me", "nats": nats, **claims}, issuer)


@pytest.mark.parametrize("account", ["BUS", "CORE", "AUTH", "SYS", "$SYS", "$G"])
@pytest.mark.parametrize("signed_by", ["an account of its own", "itself"])
async def test_a_token_of_ones_own_opens_no_account(bus: Watched, account: str, signed_by: str) -> None:
    for member in (Member(), bus.stage.member(ROOM)):
        own = SigningKey.from_seed(os.urandom(32), "A") if signed_by == "an account of its own" else member.key
        tokens = [
            own_token(member, account, own),
            own_token(member, account, own, issuer_account=bus.keys.issuer.public),
        ]
        for token in tokens:
            for extra in ({}, {"nkey": bus.keys.core.public}, {"user": "member"}):

                def login(nonce: str, token: str = token, extra: Mapping[str, str] = extra) -> Mapping[str, object]:
                    return {"jwt": token, "sig": signed(member, nonce)["sig"], **extra}  # noqa: B023 - used in this turn

                assert await shake_hands(bus.stage.plane.client_port, login) == REFUSED


async def test_a_member_who_brings_a_token_besides_gets_what_a_member_gets(bus: Watched) -> None:
    """The token says that it may do everything, in the account with the stream. The signature is what counts."""
    alice, bob = bus.stage.member(ROOM), bus.stage.member(ROOM)
    token = own_token(alice, "CORE", SigningKey.from_seed(os.urandom(32), "A"))
    port = bus.stage.plane.client_port
    publish = f"PUB {bob.sender()} 1\r\nx\r\nPUB $JS.API.STREAM.DELETE.{subjects.STREAM} 0\r\n\r\nPING\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(WAIT):
            nonce = json.loads((await reader.readline()).removeprefix(b"INFO "))["nonce"]
            told = {"verbose": False, "pedantic": False, "lang": "x", "version": "1", "protocol": 1, "jwt": token}
            writer.write(b"CONNECT " + json.dumps({**told, **signed(alice, nonce)}).encode() + b"\r\n" + publish)
            said = [line async for line in until_pong(reader)]
    finally:
        writer.close()
        await writer.wait_closed()
    assert sum(b"Permissions Violation for Publish" in line for line in said) == 2
    async with bus.stage.connect(bob) as b:
        assert (await b.publish())["seq"] == 1


async def until_pong(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """What the server says until it answers a PING."""
    while (line := await reader.readline()) != b"PONG\r\n":
        assert line, "the server closed the connection"
        yield line
