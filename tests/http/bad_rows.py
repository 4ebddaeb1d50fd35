"""Bad input over HTTP, one row each: how to make it, and which status and problem it must get.

Every request is genuine but for the one thing that is wrong. What can be wrong with a signature alone has a longer
table of its own in `attacks`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.builders import ANY_DIGEST, Change, Story, identity, user
from tests.forging import REMOVED, altered, header, payload_of, token
from tests.http.attacks import INPUT, Edit, instead, plus, put, same, without
from tests.http.bad_input import DIRECTORY_PATH, QUICK, Stage
from tests.http.serving import raw

from unibus.crypto.encoding import b64u, dump_json
from unibus.model.bodies import RoomRename, UserRevoke
from unibus.model.records import DIRECTORY, write_record

BLOB = b64u(bytes(32))
KEYS_TOO_MANY = dump_json({"record": "x", "sealed": {user("ada"): "AA"}})


@dataclass(frozen=True)
class Row:
    """`send` makes the request; `status` and `problem` are what it must get."""

    name: str
    status: int
    problem: str
    send: Callable[[Stage], bytes]


def body(text: bytes, edit: Edit = same) -> Callable[[Stage], bytes]:
    """That body in place of an append to the directory."""
    return lambda stage: stage.signed("POST", DIRECTORY_PATH, text, edit=edit)


def handle(text: str) -> Callable[[Stage], bytes]:
    """Ada admits zoe under that handle."""
    return lambda stage: stage.change_directory(altered(stage.story.admission("zoe"), "body.handle", text))


def room_change(path: str, value: object) -> Callable[[Stage], bytes]:
    """Ada's rotation with one member changed."""

    def made(stage: Stage) -> bytes:
        change = stage.room.rotation()
        return stage.change_room(Change(altered(change.raw, path, value), change.sealed))

    return made


def room_name(text: str) -> Callable[[Stage], bytes]:
    """Ada renames the room so."""

    def made(stage: Stage) -> bytes:
        change = stage.room.sign("ada", RoomRename(name="x"))
        return stage.change_room(Change(altered(change.raw, "body.name", text)))

    return made


def sealed(spoil: Callable[[dict[str, str]], dict[str, str]]) -> Callable[[Stage], bytes]:
    """Ada's rotation with other sealed keys than it was signed for."""

    def made(stage: Stage) -> bytes:
        change = stage.room.rotation()
        return stage.change_room(change, sealed=spoil({name: b64u(key) for name, key in change.sealed.items()}))

    return made


def reads(target: str) -> Callable[[Stage], bytes]:
    """A well-signed read of that address; ROOM stands for the room's id."""
    return lambda stage: stage.read(target.replace("ROOM", stage.room.id))


def unsigned(target: str, *headers: tuple[str, str]) -> Callable[[Stage], bytes]:
    """An unsigned GET of that target, as it stands."""
    return lambda stage: raw("GET", target, [("Host", stage.server.host), *headers])


def begins(size: int, by: str = "ada") -> Callable[[Stage], bytes]:
    """The beginning of an upload."""
    return lambda stage: stage.signed("PUT", stage.at_room(f"blobs/{BLOB}/upload"), dump_json({"size": size}), by=by)


def part(stage: Stage) -> bytes:
    """A part of an upload that was not begun."""
    return stage.signed("PATCH", stage.at_room(f"blobs/{BLOB}/upload?offset=0"), b"x" * 16)


def admission_by(name: str) -> Callable[[Stage], bytes]:
    """Somebody admits zoe."""
    return lambda stage: stage.change_directory(stage.story.admission("zoe", by=name), by=name)


def other_bus(stage: Stage) -> bytes:
    """A revocation signed for another bus."""
    stranger = Story("bob", at=stage.story.at)
    return stage.change_directory(
        write_record(
            identity("ada").signing,
            stranger.bus,
            DIRECTORY,
            stage.story.directory.head,
            UserRevoke(user=user("bob")),
            at=stage.story.at,
        )
    )


def by(name: str, brought_by: str | None = None) -> Callable[[Stage], bytes]:
    """Somebody adds cyd to the room."""
    return lambda stage: stage.change_room(stage.room.addition("cyd", by=name), by=brought_by or name)


def without_signature(stage: Stage) -> bytes:
    """An admission that nobody signed."""
    signed = stage.story.admission("zoe")
    return stage.change_directory(signed.rpartition(b".")[0] + b"." + b64u(bytes(64)).encode())


def algorithm(name: str) -> Callable[[Stage], bytes]:
    """An admission under that algorithm."""
    return lambda stage: stage.change_directory(token(header(alg=name), payload_of(stage.story.admission("zoe"))))


def founding(stage: Stage) -> bytes:
    """Making the bus anew, with a token that was guessed."""
    text = dump_json({"record": stage.story.records[0].decode()})
    headers = [("Host", stage.server.host), ("Authorization", "Bearer guessed"), ("Content-Length", str(len(text)))]
    return raw("POST", "/v1/bus", headers, text)


# fmt: off
HANDLES = [
    "", "Bob", "bo b", ".bob", "-bob", "b" * 33, "bob\n", "bob\0", "../bob", "bob/x",
    # Look-alikes: of other alphabets, wide, bold, dotless, combining, and with what cannot be seen.
    "b\u00f6b", "b\u043eb", "\uff42ob", "bo\U0001d41b", "b\u0131b", "bo\u0301b", "\u0432\u043e\u0432", "bob\u200b",
    "\u202ebob",
]
ROOM_NAMES = [
    "", " x", "x ", "a\nb", "a\x1b[31mb", "a\u202eb", "a\u200bb", "\ufeffa", "a\u2028b", "a\u00adb",
]
ROOMS = [
    "a", "a" * 25, "a" * 27, "A" * 26, "0" * 26, "..%2f..%2fdirectory", "%2e%2e", "%00", "a" * 25 + "%0a", "directory",
    "a" * 25 + "%D0%B0", "%EF%BD%81" + "a" * 25, "a" * 26 + "%20", "*", "_",
]
BLOBS = [
    "x", "A" * 42, "A" * 44, "A" * 42 + "B", "A" * 42 + "=", "%00" + "A" * 42, "%2e%2e", "..%2f..%2funibus.sqlite3",
]
PAGES = [
    "after=-1", "after=1.0", "after=1e3", "after=", "after=x", "after=2147483649", "after=%D9%A3", "after=%201",
    "limit=-1", "limit=1_0", "limit=0x10", "after=" + "9" * 400,
]
PATHS = [
    "/etc/passwd", "/../etc/passwd", "/v1/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
    "/docs/..%2f..%2fetc%2fpasswd", "/v1/bus/", "//v1/bus",
    "/v1/bus%00", "/v1%2fbus", "/V1/BUS", "/v1/rooms/", "/docs/docs.css",
    "/.git/config",
]
# fmt: on

ROWS = [
    # Signatures: see also `attacks`.
    Row("unsigned", 401, "signature-missing", lambda s: s.read(edit=without("Signature", INPUT))),
    Row("mis-signed", 401, "signature-invalid", lambda s: s.read(send={"target": DIRECTORY_PATH + "?after=1"})),
    Row("in another's name", 401, "signature-invalid", lambda s: s.read(edit=put(INPUT, user("ada"), user("bob")))),
    Row("stale", 401, "signature-stale", lambda s: s.read(sign={"created": int(time.time()) - 63})),
    Row("future", 401, "signature-stale", lambda s: s.read(sign={"created": int(time.time()) + 63})),
    Row("signed for another bus", 403, "wrong-bus", lambda s: s.read(sign={"bus": ANY_DIGEST})),
    Row("a stranger", 403, "not-a-user", lambda s: s.read(by="zoe")),
    Row("an invite that nobody made", 404, "invite-unknown", lambda s: s.read("/v1/join", by="zoe")),
    Row("founding a second bus", 403, "bootstrap-refused", founding),
    # Bodies.
    Row("body over the limit", 413, "too-large", body(b"x" * (QUICK.record_body + 1))),
    Row("body that claims to be over", 413, "too-large", body(b"{}", instead("Content-Length", "999999999"))),
    Row("body that is slow", 408, "request-timeout", body(b"{}", instead("Content-Length", "9"))),
    Row("body of another coding", 400, "invalid-input", body(b"{}", plus("Content-Encoding", "gzip"))),
    Row("not JSON", 400, "invalid-input", body(b"record=x")),
    Row("no text", 400, "invalid-input", body(b'{"record": "\xff\xfe"}')),
    Row("half a surrogate pair", 400, "invalid-input", body(b'{"record": "\\ud800"}')),
    Row("JSON of another kind", 400, "invalid-input", body(b'["record"]')),
    Row("JSON too deep", 400, "invalid-input", body(b'{"record": ' + b"[" * 60_000 + b"]" * 60_000 + b"}")),
    Row("JSON too deep in an unknown member", 400, "invalid-input", body(b'{"x":' * 20_000 + b"1" + b"}" * 20_000)),
    Row("a member too many", 400, "invalid-input", body(b'{"record": "x", "admin": true}')),
    Row("a member missing", 400, "invalid-input", body(b"{}")),
    Row("a member of another type", 400, "invalid-input", body(b'{"record": 5}')),
    Row("an endless number", 400, "invalid-input", body(b'{"record": ' + b"9" * 50_000 + b"}")),
    Row("an empty record", 400, "invalid-input", body(b'{"record": ""}')),
    Row("no record at all", 400, "malformed-record", body(b'{"record": "a.b.c"}')),
    Row("a record over the limit", 400, "invalid-input", body(dump_json({"record": "x" * 65_537}))),
    # Records.
    Row("another bus", 403, "wrong-bus", other_bus),
    Row("wrong previous hash", 409, "head-conflict", room_change("prev", ANY_DIGEST)),
    Row("a number left out", 409, "head-conflict", room_change("seq", 5)),
    Row("a number from before", 409, "head-conflict", room_change("seq", 2)),
    Row("an unknown type", 400, "malformed-record", room_change("type", "room.explode")),
    Row("a type of the other log", 400, "malformed-record", room_change("type", "user.revoke")),
    Row("another room's log", 400, "malformed-record", room_change("log", "room/" + "a" * 26)),
    Row("the directory's log", 400, "malformed-record", room_change("log", "directory")),
    Row("an unknown member", 400, "malformed-record", room_change("body.also", 1)),
    Row("a member left out", 400, "malformed-record", room_change("body.sealed", REMOVED)),
    Row("another version", 400, "malformed-record", room_change("v", 2)),
    Row("a clock that is slow", 400, "invalid-input", room_change("at", int(time.time()) - 1000)),
    Row("a clock that is fast", 400, "invalid-input", room_change("at", int(time.time()) + 1000)),
    Row("a directory that nobody has", 409, "head-conflict", room_change("dir.hash", ANY_DIGEST)),
    Row("a directory to come", 409, "head-conflict", room_change("dir.seq", 99)),
    Row("an epoch left out", 422, "rule-broken", room_change("body.epoch.number", 3)),
    Row("a signature of zeros", 400, "malformed-record", without_signature),
    Row("no algorithm", 400, "malformed-record", algorithm("none")),
    Row("a hashing algorithm", 400, "malformed-record", algorithm("HS256")),
    Row("a member adds", 403, "forbidden", by("bob")),
    Row("a reader adds", 403, "forbidden", by("rex")),
    Row("an outsider adds", 404, "not-found", by("cyd")),
    Row("a stranger adds", 403, "not-a-user", by("zoe")),
    Row("brought by another", 403, "forbidden", by("ada", "bob")),
    Row("a member admits", 403, "forbidden", admission_by("bob")),
    Row("a handle that is taken", 422, "rule-broken", handle("bob")),
    Row("a user twice", 422, "rule-broken", lambda s: s.change_directory(s.story.admission("bob", handle="bob2"))),
    Row("the last admin goes", 422, "rule-broken", lambda s: s.change_directory(s.story.revocation("ada"))),
    Row("keys with a directory record", 400, "invalid-input", body(KEYS_TOO_MANY)),
    # Sealed keys.
    Row("no sealed keys", 422, "rule-broken", sealed(lambda _: {})),
    Row("a sealed key missing", 422, "rule-broken", sealed(lambda k: {n: v for n, v in k.items() if n != user("bob")})),
    Row("a sealed key too many", 422, "rule-broken", sealed(lambda k: k | {user("cyd"): k[user("bob")]})),
    Row("a sealed key exchanged", 422, "rule-broken", sealed(lambda k: k | {user("bob"): k[user("ada")]})),
    Row("a sealed key cut short", 400, "invalid-input", sealed(lambda k: k | {user("bob"): k[user("bob")][:-4]})),
    Row("a sealed key of no alphabet", 400, "invalid-input", sealed(lambda k: k | {user("bob"): "+/=="})),
    Row("a sealed key for nobody", 400, "invalid-input", sealed(lambda k: k | {"bob": k[user("bob")]})),
    # Names, in look-alikes too.
    *(Row(f"the handle {text!a}", 400, "name-invalid", handle(text)) for text in HANDLES),
    Row("a room name too long", 400, "name-invalid", room_name("x" * 65)),
    *(Row(f"the room name {text!a}", 422, "rule-broken", room_name(text)) for text in ROOM_NAMES),
    # Addresses.
    *(Row(f"the room {text}", 400, "invalid-input", reads(f"/v1/rooms/{text}/records")) for text in ROOMS),
    Row("a room that is not", 404, "not-found", reads(f"/v1/rooms/{'a' * 26}/records")),
    Row("a foreign room", 404, "not-found", lambda s: s.read(s.at_room("records"), by="cyd")),
    Row("foreign keys", 404, "not-found", lambda s: s.read(s.at_room("keys"), by="cyd")),
    Row("foreign blobs", 404, "not-found", lambda s: s.read(s.at_room("blobs"), by="cyd")),
    Row("the trail, for no admin", 403, "forbidden", lambda s: s.read("/v1/audit", by="bob")),
    *(Row(f"the page {text}", 400, "invalid-input", reads(f"{DIRECTORY_PATH}?{text}")) for text in PAGES),
    Row("more than a page", 400, "list-too-long", reads(f"{DIRECTORY_PATH}?limit=501")),
    Row("a page of rooms after none", 400, "invalid-input", reads("/v1/rooms?after=../x")),
    *(Row(f"the blob {text}", 400, "invalid-input", reads(f"/v1/rooms/ROOM/blobs/{text}/info")) for text in BLOBS),
    Row("a blob that is not", 404, "not-found", reads(f"/v1/rooms/ROOM/blobs/{BLOB}")),
    Row("a blob of no bytes", 400, "invalid-input", begins(15)),
    Row("a blob too large", 413, "too-large", begins(9007199254740991)),
    Row("a reader's blob", 403, "forbidden", begins(16, by="rex")),
    Row("a part of nothing", 404, "not-found", part),
    *(Row(f"the path {text}", 404, "not-found", unsigned(text)) for text in PATHS),
    Row("an address too long", 414, "target-too-long", unsigned("/v1/bus?" + "x" * 5000)),
    Row("headers too large", 431, "headers-too-large", unsigned("/v1/bus", ("X", "x" * 9000))),
]
