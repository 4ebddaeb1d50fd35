"""A node's own nonce as a client uses it: while it is fresh, and never anything that could not be one."""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO

import pytest
from aiohttp import web
from yarl import URL

from tests.builders import identity
from tests.client.hostile import Server
from unibus.client.api import ControlApi
from unibus.client.exchange import NamedBody
from unibus.client.server_nonces import AVOIDED, FRESH, MOST, ServerNonces
from unibus.crypto.encoding import b64u
from unibus.crypto.httpsig import NONCE_HEADER
from unibus.errors import Forbidden, NonceReplayed, NonceUnknown, SignatureInvalid

FIRST, SECOND = b64u(bytes([1]) * 16), b64u(bytes([2]) * 16)
RECORDS = "/v1/directory/records"
N1, N2 = URL("http://n1:8470/"), URL("http://n2:8470/")
_NONCE = re.compile(r';nonce="([^"]*)"')


def test_each_nodes_nonce_is_used_for_a_while_after_it_was_heard() -> None:
    now = [0.0]
    nonces = ServerNonces(lambda: now[0])
    assert nonces.of(N1) is None
    nonces.heard(N1, [FIRST])
    assert (nonces.of(N1), nonces.of(N2)) == (FIRST, None)
    now[0] += FRESH - 1
    assert nonces.of(N1) == FIRST
    nonces.heard(N1, [])  # an older version, or something between
    nonces.heard(N1, [SECOND])
    now[0] += FRESH - 1
    assert nonces.of(N1) == SECOND
    now[0] += 1
    assert nonces.of(N1) is None


def test_where_one_was_refused_none_is_used_for_a_moment() -> None:
    """Several nodes may be behind one address, each with a nonce of its own."""
    now = [0.0]
    nonces = ServerNonces(lambda: now[0])
    nonces.heard(N1, [FIRST])
    nonces.heard(N2, [FIRST])
    nonces.refused(N1)
    nonces.heard(N1, [SECOND])
    assert (nonces.of(N1), nonces.of(N2)) == (None, FIRST)
    now[0] += AVOIDED
    assert nonces.of(N1) == SECOND


def test_addresses_without_end_are_not_remembered_without_end() -> None:
    """A directory that lies names any number of addresses, and one server answers at all of them."""
    nonces = ServerNonces(lambda: 0.0)
    nodes = [URL(f"http://node{number}:8470/") for number in range(5 * MOST)]
    for node in nodes:
        nonces.heard(node, [FIRST])
        nonces.heard(N1, [SECOND])
    assert len([node for node in nodes if nonces.of(node)]) == MOST - 1
    assert nonces.of(N1) == SECOND, "what is heard again and again was forgotten"


def test_refusals_without_end_are_not_remembered_without_end() -> None:
    nonces = ServerNonces(lambda: 0.0)
    nodes = [URL(f"http://node{number}:8470/") for number in range(5 * MOST)]
    for node in nodes:
        nonces.refused(node)
    for node in nodes[:MOST]:
        nonces.heard(node, [FIRST])
    assert [nonces.of(node) for node in nodes[:MOST]] == [FIRST] * MOST


GARBAGE = [
    "",
    "x",
    FIRST[:-1],
    FIRST + "A",
    f"{FIRST}.{SECOND}",
    f'{FIRST[:-1]}"',
    "é" * 22,
    f"{FIRST}\n",
    "A" * 100_000,
]


@pytest.mark.parametrize("text", GARBAGE)
def test_what_cannot_be_a_nonce_is_never_taken_up(text: str) -> None:
    nonces = ServerNonces(lambda: 0.0)
    nonces.heard(N1, [text])
    nonces.heard(N1, [FIRST, SECOND])
    assert nonces.of(N1) is None


class Node:
    """Answers for the records as it is told; `named` lists what was signed with, `bodies` what came."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.named: list[str | None] = []
        self.bodies: list[bytes] = []
        self.gives: str | None = FIRST
        self.takes: Callable[[str | None], bool] = lambda _: True
        self.refuses = NonceUnknown.code
        server.answers[RECORDS] = self.answer

    async def answer(self, request: web.Request) -> web.Response:
        found = _NONCE.findall(request.headers["Signature-Input"])[0]
        named = found.partition(".")[2] or None
        self.named.append(named)
        self.bodies.append(await request.read())
        headers = {} if self.gives is None else {NONCE_HEADER: self.gives}
        if not self.takes(named):
            body = f'{{"type":"urn:unibus:problem:{self.refuses}","detail":"no"}}'.encode()
            return web.Response(status=401, body=body, content_type="application/problem+json", headers=headers)
        made = self._server.records("directory", request)
        made.headers.update(headers)
        return made


@pytest.fixture
def node(server: Server) -> Node:
    return Node(server)


@pytest.fixture
async def api(server: Server) -> AsyncIterator[ControlApi]:
    """Bob's calls to the server."""
    api = ControlApi(server.url, identity("bob").signing, time.time, 5.0)
    api.bus = server.world.bus
    await api.open()
    yield api
    await api.close()


def asking(api: ControlApi) -> Callable[[], Awaitable[object]]:
    return lambda: api.records("directory", 0)


async def test_the_newest_nonce_is_used(node: Node, api: ControlApi) -> None:
    ask = asking(api)
    await ask()
    node.gives = SECOND
    await ask()
    node.gives = None
    await ask()
    assert node.named == [None, FIRST, SECOND]


async def test_after_a_restart_of_the_node_nobody_notices(node: Node, api: ControlApi) -> None:
    ask = asking(api)
    await ask()
    node.gives, node.takes = SECOND, lambda named: named in (None, SECOND)
    await ask()
    assert node.named == [None, FIRST, None]


async def test_a_version_that_knows_no_such_nonces_is_asked_without(node: Node, api: ControlApi) -> None:
    ask = asking(api)
    await ask()
    node.gives, node.takes, node.refuses = None, lambda named: named is None, SignatureInvalid.code
    await ask()
    assert node.named == [None, FIRST, None]


async def test_a_node_that_never_takes_its_own_nonce_is_named_after_two_tries(node: Node, api: ControlApi) -> None:
    ask = asking(api)
    await ask()
    node.takes = lambda _: False
    with pytest.raises(NonceUnknown):
        await ask()
    assert node.named == [None, FIRST, None]
    with pytest.raises(NonceUnknown):
        await ask()
    assert node.named[3:] == [None]


@pytest.mark.parametrize("error", [NonceReplayed, Forbidden])
async def test_no_other_refusal_is_tried_again(node: Node, api: ControlApi, error: type[NonceReplayed]) -> None:
    ask = asking(api)
    await ask()
    node.takes, node.refuses = lambda _: False, error.code
    with pytest.raises(error):
        await ask()
    assert node.named == [None, FIRST]


@pytest.mark.parametrize("named", [False, True])
async def test_a_body_is_sent_again_whole(node: Node, api: ControlApi, named: bool) -> None:
    await asking(api)()
    node.takes = lambda nonce: nonce is None
    content, given = bytes(range(256)) * 3_000, BytesIO()
    body = NamedBody(memoryview(content), lambda: given.write(b"x"))
    sent = {"named": body} if named else {"body": content}
    async with api.exchange("POST", URL(RECORDS) % {"after": "0"}, **sent) as response:
        assert response.status == 200
    assert node.named == [None, FIRST, None]
    assert node.bodies == [b"", content, content]
    assert len(given.getvalue()) == 2 * named


@pytest.mark.parametrize("text", [each for each in GARBAGE if each.isascii() and "\n" not in each and len(each) < 8000])
async def test_what_a_liar_hands_out_never_gets_into_a_signature(node: Node, api: ControlApi, text: str) -> None:
    node.gives = text
    ask = asking(api)
    await ask()
    await ask()
    assert node.named == [None, None]
