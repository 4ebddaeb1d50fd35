"""What the bus refuses leaves its trace: who it was, where that is proven, and of which room."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import nats.errors
import pytest

from tests.builders import identity
from tests.bus.stage import Connection, Member, login_of, shake_hands
from tests.e2e.conftest import options
from tests.support.people import Place
from tests.support.processes import no_nats_server
from unibus.bus.pace import MESSAGES_AT_ONCE
from unibus.daemon.node import Node
from unibus.model.wire import AuditEntry
from unibus.services.refusals import ACTOR_AT_ONCE

TOKEN = "t" * 22
ROOM = "a" * 26


@pytest.fixture
async def node(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Node]:
    """A node whose bus ada founded, with eve on it; the mode may be given."""
    data_dir = tmp_path / "data"
    async with Node(options(data_dir, getattr(request, "param", "enforce"))) as node:
        await Place(f"http://127.0.0.1:{node.http_port}", data_dir).found("eve")
        yield node
    await no_nats_server(data_dir)


async def refusals(node: Node, action: str) -> list[AuditEntry]:
    """The refusals of that kind in the trail."""
    await node.audit.close()
    return [entry for entry in await node.audit.read(0, 1000) if (entry.action, entry.outcome) == (action, "refused")]


async def turned_away(node: Node, member: Member) -> None:
    """Try to connect, in vain."""
    connection = Connection(member)
    with pytest.raises(nats.errors.Error):
        await connection.open(node.bus.client_port, None)
    await connection.client.close()


async def test_a_delivery_of_a_foreign_room_is_noted_with_user_and_room(node: Node) -> None:
    eve = Connection(Member(identity("eve").signing))
    await eve.open(node.bus.client_port, None)
    for _ in range(ACTOR_AT_ONCE + 5):
        assert "error" in await eve.ask({"room": ROOM, "token": TOKEN, "after": 0})
    assert "error" in await eve.ask(b"no request")
    await eve.client.close()
    noted = await refusals(node, "bus.deliver")
    assert {(entry.actor, entry.target, entry.facts["code"]) for entry in noted} == {
        (identity("eve").user, ROOM, "not-found")
    }
    assert len(noted) == ACTOR_AT_ONCE
    await node.audit.done("x", actor=identity("eve").user)
    assert (await node.audit.read(0, 1000))[-1].left_out == 6


async def test_a_request_that_is_none_is_noted_without_a_room(node: Node) -> None:
    eve = Connection(Member(identity("eve").signing))
    await eve.open(node.bus.client_port, None)
    await eve.ask(b"no request")
    await eve.client.close()
    (entry,) = await refusals(node, "bus.deliver")
    assert (entry.actor, entry.target, entry.facts["code"]) == (identity("eve").user, None, "invalid-input")


@pytest.mark.parametrize("node", ["warn"], indirect=True)
async def test_where_anybody_may_ask_in_any_name_nobody_is_the_actor(node: Node) -> None:
    eve = Connection(Member(identity("eve").signing))
    await eve.open(node.bus.client_port, None)
    await eve.client.request(f"ctl.{identity('ada').user}.deliver", b"no request", timeout=5)
    await eve.client.close()
    (entry,) = await refusals(node, "bus.deliver")
    assert (entry.actor, entry.facts["claimed"]) == ("-", identity("ada").user)


async def test_a_proven_identity_that_is_refused_is_the_actor(node: Node) -> None:
    stranger = Member(identity("stranger").signing)
    await turned_away(node, stranger)
    (entry,) = await refusals(node, "bus.connect")
    assert (entry.actor, entry.facts["code"], entry.origin) == (stranger.user, "not-a-user", "127.0.0.1")
    assert "claimed" not in entry.facts


async def test_an_identity_that_is_only_claimed_is_not(node: Node) -> None:
    mallory = Member(identity("mallory").signing)
    forged = login_of(mallory, nkey=identity("eve").user)
    assert (await shake_hands(node.bus.client_port, forged)).startswith("-ERR")
    (entry,) = await refusals(node, "bus.connect")
    assert (entry.actor, entry.facts["claimed"]) == ("-", identity("eve").user)


async def test_who_sent_too_much_is_noted_and_counted(node: Node) -> None:
    eve = Connection(Member(identity("eve").signing))
    await eve.open(node.bus.client_port, None)
    with contextlib.suppress(nats.errors.Error):  # it may be cut off while it still sends
        for _ in range(MESSAGES_AT_ONCE + 1000):
            await eve.client.publish("$JS.FC.ROOMS.a.b", b"")
        await eve.client.flush()
    async with asyncio.timeout(10):
        await eve.closed.wait()
    await turned_away(node, eve.member)
    (entry,) = await refusals(node, "bus.send")
    assert (entry.actor, entry.facts["code"]) == (identity("eve").user, "rate-limited")
    assert node.metrics.bus_cut_offs.count() == 1
