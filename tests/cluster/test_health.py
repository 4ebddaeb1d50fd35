"""What nodes say at `/healthz`, asked over real TLS: who lies, stammers or is silent has no quorum."""

import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cluster.example import place
from unibus.cluster.certs import How
from unibus.cluster.health import NodeHealth, ask, can_lose, judge
from unibus.cluster.layout import CLIENT_AUTHORITY, ROUTE_AUTHORITY, PairPlace, pair
from unibus.cluster.material import make_certs
from unibus.cluster.nodes import parse

GOOD = {"status": "ok", "reasons": [], "store": {"engine": "kv", "quorum": True}}
WELL = NodeHealth(answers=True, ok=True, quorum=True)


def nodes(port: int) -> str:
    return f"CLUSTER_NAME=trial\nHTTP_PORT={port}\nNODE=ada 127.0.0.1 127.0.2.1 root /opt/unibus\n"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    base = place(tmp_path / "deploy", nodes(8470))
    make_certs(base, How.KEEP, now=time.time(), random=os.urandom)
    return base


@contextmanager
def answering(base: Path, shown: PairPlace, status: int, body: bytes) -> Iterator[int]:
    """A server that answers everything with the same; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...  # nothing is to be said

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(base / shown.certificate, base / shown.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def asked(base: Path, port: int, deadline: float = 5.0) -> NodeHealth:
    cluster = parse(nodes(port))
    return ask(cluster, cluster.nodes[0], base / CLIENT_AUTHORITY.certificate, deadline)


def test_a_node_that_is_well_is_heard(base: Path) -> None:
    with answering(base, pair("ada", "server"), 200, json.dumps(GOOD).encode()) as port:
        assert asked(base, port) == WELL


def test_a_stranger_in_the_nodes_place_is_not_heard(base: Path) -> None:
    with answering(base, pair("ada", "route"), 200, json.dumps(GOOD).encode()) as port:
        found = asked(base, port)
    assert not found.answers
    assert "certificate verify failed" in found.reasons[0]


def test_the_route_authority_vouches_for_no_plane(base: Path) -> None:
    assert (base / ROUTE_AUTHORITY.certificate).read_bytes() != (base / CLIENT_AUTHORITY.certificate).read_bytes()
    with answering(base, pair("ada", "server"), 200, json.dumps(GOOD).encode()) as port:
        cluster = parse(nodes(port))
        assert not ask(cluster, cluster.nodes[0], base / ROUTE_AUTHORITY.certificate).answers


def test_silence_is_no_answer(base: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not asked(base, port, 0.2).answers  # it takes the connection and says nothing
    assert "does not answer" in asked(base, port).reasons[0]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"ok"),
        (200, b"[]"),
        (200, b'"ok"'),
        (200, json.dumps({**GOOD, "store": None}).encode()),
        (200, json.dumps({**GOOD, "reasons": None}).encode()),
        (200, json.dumps({"status": "ok", "reasons": [], "store": {"engine": "sqlite"}}).encode()),
        (200, json.dumps({**GOOD, "store": {"engine": "kv", "quorum": "yes"}}).encode()),
        (200, json.dumps({**GOOD, "store": {"engine": "sqlite", "quorum": True}}).encode()),
        (503, b"\xff\xfe"),
        (200, b"[" * 100_000),
    ],
)
def test_what_does_not_say_quorum_has_none(status: int, body: bytes) -> None:
    found = judge(status, body)
    assert found.answers
    assert not found.quorum


def test_degraded_with_quorum_is_both() -> None:
    told = {"status": "degraded", "reasons": ["the certificate expires"], "store": {"engine": "kv", "quorum": True}}
    assert judge(503, json.dumps(told).encode()) == NodeHealth(
        answers=True, quorum=True, reasons=("the certificate expires",)
    )
    assert not judge(503, json.dumps(GOOD).encode()).ok


def test_a_cluster_can_lose_only_whom_the_others_outvote() -> None:
    rows = "".join(f"NODE=n{n} 192.0.2.{n} 10.9.0.{n} root /opt/unibus\n" for n in range(1, 6))
    five = parse("CLUSTER_NAME=five\n" + rows)
    up = {f"n{n}": WELL for n in range(1, 6)}
    assert can_lose(five, ["n1", "n2"], up)
    assert not can_lose(five, ["n1"], dict.fromkeys(("n1", "n2", "n3"), WELL))
    assert can_lose(five, ["n1"], dict.fromkeys(("n2", "n3", "n4"), WELL))
