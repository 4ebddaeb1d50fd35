"""Attacks on signed requests, one row each, and the builder of requests that are signed as one thing and sent as
another.

A row changes what is signed (`sign`), what is sent (`send`) or the headers (`edit`) of an otherwise genuine request,
and says which answer it must get. The wire is built here by hand: no client would send most of this.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.http.serving import raw

from unibus.crypto import httpsig, nkeys
from unibus.crypto.encoding import b64u

NOW = 1_800_000_000
BUS, OTHER_BUS = b64u(bytes([7]) * 32), b64u(bytes([8]) * 32)
NONCE = b64u(bytes(16))
ALICE, BOB, STRANGER = (nkeys.SigningKey.from_seed(bytes([i]) * 32) for i in (1, 2, 3))
LIMIT = 1000
TARGET = "/v1/things/%7Ea?after=0"
POST = {"method": "POST", "body": b"hello"}

Headers = list[tuple[str, str]]
Edit = Callable[[Headers], Headers]


def request(host: str, sign: dict[str, Any], send: dict[str, Any], edit: Edit) -> bytes:
    """A request signed as `sign` says and sent as `send` and `edit` say; what is not said is genuine."""
    made: dict[str, Any] = {"method": "GET", "target": TARGET, "body": b"", "key": ALICE, "host": host} | sign
    signed = httpsig.sign(
        made["key"],
        made["method"],
        f"http://{made['host']}{made['target']}",
        made["body"],
        bus=made.get("bus", BUS),
        created=made.get("created", NOW),
        nonce=made.get("nonce", NONCE),
        server_nonce=made.get("server_nonce"),
    )
    sent: dict[str, Any] = {"host": host} | {name: made[name] for name in ("method", "target", "body")} | send
    headers = [("Host", sent["host"]), *signed.items()]
    if sent["body"]:
        headers.append(("Content-Length", str(len(sent["body"]))))
    return raw(sent["method"], sent["target"], edit(headers), sent["body"], sent.get("version", "1.1"))


def same(headers: Headers) -> Headers:
    return headers


def without(*names: str) -> Edit:
    return lambda headers: [(name, value) for name, value in headers if name not in names]


def plus(name: str, value: str) -> Edit:
    return lambda headers: [*headers, (name, value)]


def put(name: str, old: str, new: str) -> Edit:
    return lambda headers: [(n, value.replace(old, new, 1) if n == name else value) for n, value in headers]


def instead(name: str, new: str) -> Edit:
    return lambda headers: [(n, new if n == name else value) for n, value in headers]


def twice(name: str) -> Edit:
    return lambda headers: [*headers, *((n, value) for n, value in headers if n == name)]


@dataclass(frozen=True)
class Attack:
    name: str
    status: int
    problem: str | None
    sign: dict[str, Any] = field(default_factory=dict)
    send: dict[str, Any] = field(default_factory=dict)
    edit: Edit = same


INVALID = (401, "signature-invalid")
INPUT = "Signature-Input"
OLD = {"created": NOW - 61}
HALLO = httpsig.content_digest(b"hallo")
ELSEWHERE = {"host": "bus.example"}
SWALLOWED = {"host": "bus.example/v1", "target": TARGET.removeprefix("/v1")}

ATTACKS = [
    Attack("unsigned", 401, "signature-missing", edit=without("Signature", INPUT)),
    Attack("input without signature", 401, "signature-missing", edit=without("Signature")),
    Attack("signature without input", 401, "signature-missing", edit=without(INPUT)),
    Attack("signed by Bob in Alice's name", *INVALID, sign={"key": BOB}, edit=put(INPUT, BOB.public, ALICE.public)),
    Attack("signed by Alice in Bob's name", *INVALID, edit=put(INPUT, ALICE.public, BOB.public)),
    Attack("a signature of zeros", *INVALID, edit=instead("Signature", f"unibus=:{'A' * 86}==:")),
    Attack("stale", 401, "signature-stale", sign=OLD),
    Attack("from the future", 401, "signature-stale", sign={"created": NOW + 61}),
    Attack("made young again", *INVALID, sign=OLD, edit=put(INPUT, str(NOW - 61), str(NOW))),
    Attack("a stranger who signs well", 403, "not-a-user", sign={"key": STRANGER}),
    Attack(
        "a stranger's key, badly signed: no other answer than for a user's",
        *INVALID,
        sign={"key": STRANGER},
        send={"method": "PUT"},
    ),
    Attack("signed for another bus", 403, "wrong-bus", sign={"bus": OTHER_BUS}),
    Attack("moved to this bus", *INVALID, sign={"bus": OTHER_BUS}, edit=put(INPUT, OTHER_BUS, BUS)),
    Attack("other method", *INVALID, send={"method": "DELETE"}),
    Attack("HEAD for GET", 401, None, send={"method": "HEAD"}),
    Attack("a method in small letters", 400, "blank", send={"method": "get"}),
    Attack("other path", *INVALID, send={"target": "/v1/other/%7Ea?after=0"}),
    Attack("same path, decoded", *INVALID, send={"target": "/v1/things/~a?after=0"}),
    Attack("same path, other case of the encoding", *INVALID, send={"target": "/v1/things/%7ea?after=0"}),
    Attack("a detour in the path", *INVALID, send={"target": "/v1/x/../things/%7Ea?after=0"}),
    Attack("other query", *INVALID, send={"target": "/v1/things/%7Ea?after=1"}),
    Attack("no query", *INVALID, send={"target": "/v1/things/%7Ea"}),
    Attack("query with a parameter more", *INVALID, send={"target": TARGET + "&limit=1"}),
    Attack("other host", *INVALID, send={"host": "elsewhere.example"}),
    Attack("a host that takes in part of the path", 400, "invalid-input", sign=ELSEWHERE, send=SWALLOWED),
    Attack("a host with a user", 400, "invalid-input", sign={"host": "a@bus.example"}, send={"host": "a@bus.example"}),
    Attack("no host", 400, "blank", edit=without("Host")),
    Attack("no host, as in HTTP/1.0", 400, "invalid-input", send={"version": "1.0"}, edit=without("Host")),
    Attack("two hosts", 400, "blank", edit=plus("Host", "elsewhere.example")),
    Attack(
        "the whole address as target",
        400,
        "invalid-input",
        sign=ELSEWHERE,
        send={"target": f"http://bus.example{TARGET}"},
    ),
    Attack(
        "a forwarded host", *INVALID, sign=ELSEWHERE, send={"host": "b"}, edit=plus("X-Forwarded-Host", "bus.example")
    ),
    Attack("other body", *INVALID, sign=POST, send={"body": b"hallo"}),
    Attack(
        "other body with its digest",
        *INVALID,
        sign=POST,
        send={"body": b"hallo"},
        edit=instead("Content-Digest", HALLO),
    ),
    Attack("body taken out", *INVALID, sign=POST, send={"body": b""}),
    Attack("body put in", *INVALID, sign={"method": "POST"}, send={"body": b"hello"}),
    Attack(
        "body put in, its digest not signed",
        *INVALID,
        sign={"method": "POST"},
        send={"body": b"hello"},
        edit=plus("Content-Digest", HALLO),
    ),
    Attack("digest taken out", *INVALID, sign=POST, edit=without("Content-Digest")),
    Attack("two digests", *INVALID, sign=POST, edit=twice("Content-Digest")),
    Attack("a weak digest", *INVALID, sign=POST, edit=instead("Content-Digest", "md5=:XUFAKrxLKna5cZ2REBfFkg==:")),
    Attack("a coding over the body", 400, "invalid-input", sign=POST, edit=plus("Content-Encoding", "gzip")),
    Attack("two signatures in two lines", *INVALID, edit=twice("Signature")),
    Attack("two inputs in two lines", *INVALID, edit=twice(INPUT)),
    Attack("an extra label", *INVALID, edit=put(INPUT, "unibus=", "more=(), unibus=")),
    Attack("fewer components", *INVALID, edit=put(INPUT, ' "@target-uri"', "")),
    Attack("an unknown component", *INVALID, edit=put(INPUT, '")', '" "date")')),
    Attack("an unknown parameter", *INVALID, edit=put(INPUT, ";alg", ";more=1;alg")),
    Attack("a parameter twice", *INVALID, edit=put(INPUT, ";alg", f";created={NOW};alg")),
    Attack("a node's nonce that no node gave out", 401, "nonce-unknown", sign={"server_nonce": "B" * 22}),
    Attack(
        "the same, by a stranger: no other answer than a user's",
        401,
        "nonce-unknown",
        sign={"key": STRANGER, "server_nonce": "B" * 22},
    ),
    Attack("the same, badly signed", 401, "nonce-unknown", edit=put(INPUT, NONCE, f"{NONCE}.{'B' * 22}")),
    Attack("a node's nonce taken out", *INVALID, sign={"server_nonce": "B" * 22}, edit=put(INPUT, f".{'B' * 22}", "")),
    Attack("two nodes' nonces", *INVALID, edit=put(INPUT, NONCE, f"{NONCE}.{'B' * 22}.{'C' * 22}")),
    Attack("an unknown algorithm", *INVALID, edit=put(INPUT, "ed25519", "none")),
    Attack("not ASCII in the signature", *INVALID, edit=put(INPUT, "unibus:", "ünibus:")),
    Attack("not ASCII in the target", 400, "blank", send={"target": "/v1/ä"}),
    Attack("body over the limit", 413, "too-large", sign={"method": "POST", "body": b"x" * (LIMIT + 1)}),
    Attack("body that claims to be huge", 413, "too-large", sign=POST, edit=instead("Content-Length", str(10**12))),
    Attack("body that never ends", 408, "request-timeout", sign=POST, edit=instead("Content-Length", "6")),
    Attack("body with two lengths", 400, "blank", sign=POST, edit=plus("Content-Length", "6")),
    Attack("body with a negative length", 400, "blank", sign=POST, edit=instead("Content-Length", "-5")),
    Attack("length and chunks at once", 400, "blank", sign=POST, edit=plus("Transfer-Encoding", "chunked")),
    Attack("a giant header", 431, "headers-too-large", edit=plus("X-Padding", "x" * 10_000)),
    Attack("a giant signature", 431, "headers-too-large", edit=instead("Signature", "x" * 10_000)),
    Attack(
        "very many headers",
        431,
        "headers-too-large",
        edit=lambda headers: headers + [(f"X-{i}", "") for i in range(1000)],
    ),
    Attack("a giant target", 414, "target-too-long", send={"target": "/" + "x" * 10_000}),
]
