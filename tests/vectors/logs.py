"""Vectors for records and the logs' rules: two rooms' and a directory's whole logs, and what may not follow them."""

from collections.abc import Sequence

from tests.builders import ANY_DIGEST, AT, Change, RoomStory, Story, identity, salt, user
from tests.forging import REMOVED, altered, header, payload_of, token
from unibus.crypto.encoding import dump_json
from unibus.crypto.heads import EMPTY, Head
from unibus.errors import (
    Forbidden,
    HeadConflict,
    LogForked,
    MalformedRecord,
    NotAUser,
    RuleBroken,
    UnibusError,
    WrongBus,
)
from unibus.model.bodies import RoomAdd, RoomRotate, Strict, UserRevoke
from unibus.model.records import DIRECTORY, read_record, room_log, write_record

Json = dict[str, object]
Refusal = tuple[str, bytes, type[UnibusError]]


def log_vectors() -> Json:
    """`records.json`."""
    story = Story()
    story.admit("bob", "cyd", "eve", "rex")
    before = story.directory.head
    shared = RoomStory(story)
    shared.add("bob", "eve")
    shared.add("rex", role="reader")
    shared.take(shared.removal("eve"))
    since = RoomStory(story, history="since-join", name="secrets")
    since.add("bob")
    story.revoke("eve")
    shared.take(shared.rotation(by="bob"))
    refused_shared = _shared_refusals(shared, before)
    return {
        "comment": (
            "Whole logs, and records that no client takes as the next one, with the code of the error. Records of a "
            "room are judged against the whole directory. `holders` are whom the current epoch's key went to."
        ),
        "directory": {
            "bus": story.bus,
            "records": good_cases(story.records),
            "refused": bad_cases(_directory_refusals(story)),
        },
        "rooms": [room_case(shared, refused_shared), room_case(since, _since_refusals(since))],
    }


def good_cases(records: Sequence[bytes]) -> list[Json]:
    """A whole log."""
    read = map(read_record, records)
    return [
        {"comment": r.type, "record": r.raw.decode(), "head": {"sequence": r.sequence, "hash": r.head.hash}}
        for r in read
    ]


def bad_cases(refusals: Sequence[Refusal]) -> list[Json]:
    """Records that may not follow."""
    return [{"comment": why, "record": raw.decode(), "error": error.code} for why, raw, error in refusals]


def room_case(room: RoomStory, refused: Sequence[Refusal]) -> Json:
    """A room's whole log, what it comes to, and what may not follow."""
    return {
        "room": room.id,
        "history": room.state.history,
        "records": good_cases(room.records),
        "roles": dict(sorted(room.state.roles.items())),
        "epoch": room.state.epoch.number,
        "holders": sorted(room.state.holders()),
        "refused": bad_cases(refused),
    }


def _form(raw: bytes) -> list[Refusal]:
    """Deviations in form of a record of Ada's that may follow."""
    payload = payload_of(raw)
    json = dump_json(payload)
    head, body, signature = raw.split(b".")
    none = token(header(alg="none"), payload).rpartition(b".")[0] + b"."
    forged = [
        ("alg none, without a signature", none),
        ("alg none, with a signature", token(header(alg="none"), payload)),
        ("alg HS256", token(header(alg="HS256"), payload)),
        ("another typ", token(header(typ="unibus-card+jws"), payload)),
        ("crit", token(header(crit=["b64"]), payload)),
        ("an extra header member", token(header(jwk={}), payload)),
        ("no kid", token({"alg": "EdDSA", "typ": "unibus-record+jws"}, payload)),
        ("another's kid", token(header(kid=user("bob")), payload)),
        ("a member twice in the header", token(dump_json(header())[:-1] + b',"alg":"EdDSA"}', payload)),
        ("a member twice in the payload", token(header(), json[:-1] + b',"v":1}')),
        ("a payload in UTF-16", token(header(), json.decode().encode("utf-16"))),
        ("a payload with a byte order mark", token(header(), b"\xef\xbb\xbf" + json)),
        ("padded base64url", b".".join((head, body, signature + b"=="))),
        ("a changed payload", b".".join((head, body[:-4] + b"AAAA", signature))),
        ("two parts", b".".join((head, body))),
        ("a version to come", altered(raw, "v", 2)),
        ("a version that is true", altered(raw, "v", True)),
        ("a number as text", altered(raw, "seq", str(payload["seq"]))),
        ("an extra member", altered(raw, "more", 1)),
        ("an extra member in the body", altered(raw, "body.more", 1)),
        ("a member missing in the body", altered(raw, "body." + min(payload["body"]), REMOVED)),
        ("an unknown type", altered(raw, "type", "user.promote")),
        ("a hash with unused bits set", altered(raw, "prev", payload["prev"][:-1] + _next(payload["prev"][-1]))),
    ]
    return [(why, bad, MalformedRecord) for why, bad in forged]


def _next(character: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(character) ^ 1]


def _directory_refusals(story: Story) -> list[Refusal]:
    bob = UserRevoke(user=user("bob"))

    def place(bus: str | None, after: Head) -> bytes:
        return write_record(identity("ada").signing, bus, DIRECTORY, after, bob, at=AT)

    head = story.directory.head
    return [
        *_form(story.revocation("bob")),
        ("another bus", place(ANY_DIGEST, head), WrongBus),
        ("no bus", place(None, head), WrongBus),
        ("another predecessor", place(story.bus, Head(head.sequence, bytes(32))), HeadConflict),
        ("a gap", place(story.bus, Head(head.sequence + 1, head.digest)), HeadConflict),
        ("the start of the log anew", place(story.bus, EMPTY), HeadConflict),
        ("a member admits", story.admission("zoe", by="bob"), Forbidden),
        ("a stranger admits", story.admission("zoe", by="zoe"), NotAUser),
        ("a revoked user revokes", story.revocation("ada", by="eve"), NotAUser),
        ("a revoked identity comes back", story.admission("eve", handle="eva"), RuleBroken),
        ("an identity under a second handle", story.admission("bob", handle="bobby"), RuleBroken),
        ("a handle that is taken", story.admission("zoe", handle="bob"), RuleBroken),
        ("the last admin leaves", story.revocation("ada"), RuleBroken),
        ("a room's record", RoomStory(story, name="x").records[0], MalformedRecord),
    ]


def _shared_refusals(room: RoomStory, before: Head) -> list[Refusal]:
    story = room.story

    def place(body: Strict, *, by: str = "bob", bus: str | None = None, directory: Head | None = None) -> bytes:
        named = directory or story.directory.head
        head = room.state.head
        return write_record(
            identity(by).signing, bus or story.bus, room_log(room.id), head, body, at=AT, directory=named
        )

    def rotate(**changes: object) -> RoomRotate:
        return RoomRotate(epoch=room.epoch().model_copy(update=changes), sealed=ANY_DIGEST)

    def signed(change: Change, error: type[UnibusError], why: str) -> Refusal:
        return (why, change.raw, error)

    unknown = Head(story.directory.head.sequence, bytes(32))
    commitment = ANY_DIGEST[:-1] + "B"
    return [
        *_form(room.rotation().raw),
        (
            "a commitment with unused bits set",
            altered(room.rotation().raw, "body.epoch.commitment", commitment),
            MalformedRecord,
        ),
        ("no directory head", altered(room.rotation().raw, "dir", None), MalformedRecord),
        ("a directory head that is in no log", place(rotate(), directory=unknown), LogForked),
        ("an older directory head than the room's last record", place(rotate(), directory=before), RuleBroken),
        ("another bus", place(rotate(), bus=ANY_DIGEST), WrongBus),
        ("an epoch left out", place(rotate(number=room.state.epoch.number + 2)), RuleBroken),
        ("an epoch again", place(rotate(number=room.state.epoch.number)), RuleBroken),
        ("no link to the key before, where history is shared", place(rotate(previous=None)), RuleBroken),
        signed(room.rotation(by="rex"), Forbidden, "a reader starts an epoch"),
        signed(room.rotation(by="cyd"), Forbidden, "somebody starts an epoch who is not in the room"),
        signed(room.rotation(by="eve"), NotAUser, "a revoked user starts an epoch"),
        signed(room.rotation(by="eve", knows=before), RuleBroken, "a revoked user signs as if before the revocation"),
        signed(room.addition("cyd", by="bob"), Forbidden, "a member adds"),
        signed(room.addition("bob"), RuleBroken, "a member twice"),
        signed(room.addition("zoe"), RuleBroken, "somebody is added who is not on the bus"),
        signed(room.removal("rex", by="bob"), Forbidden, "a member removes"),
        signed(room.removal("cyd"), RuleBroken, "somebody is removed who is not in the room"),
        signed(room.removal("ada"), RuleBroken, "an owner removes themselves"),
        signed(room.created, HeadConflict, "the creation again"),
    ]


def _since_refusals(room: RoomStory) -> list[Refusal]:
    linked = room.epoch().model_copy(update={"previous": "A" * 64})
    bare = RoomAdd(user=user("rex"), role="member", sealed=ANY_DIGEST)
    return [
        ("an addition without an epoch", room.sign("ada", bare).raw, RuleBroken),
        ("a link to the key before", room.sign("ada", RoomRotate(epoch=linked, sealed=ANY_DIGEST)).raw, RuleBroken),
        ("another room's record", RoomStory(room.story, name=salt("x")).records[0], MalformedRecord),
    ]
