"""Records: exactly the documented form, signed, in its place in one chain; every deviation is one named error."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import ANY_DIGEST, AT, RoomStory, Story, identity, salt, user
from tests.forging import REMOVED, altered, header, payload_of, token
from unibus.crypto.encoding import b64u, dump_json, unb64u
from unibus.crypto.heads import EMPTY, Head
from unibus.errors import HeadConflict, MalformedRecord, UnibusError, WrongBus
from unibus.model.bodies import Strict, UserRevoke
from unibus.model.records import DIRECTORY, chain, read_record, room_id, write_record

STORY = Story()
STORY.admit("bob")
ROOM = RoomStory(STORY)
GENESIS, ADMISSION, CREATION = STORY.records[0], STORY.records[1], ROOM.records[0]
ROTATION = ROOM.rotation().raw
ADDITION = ROOM.addition("bob").raw


def signed(payload: object) -> bytes:
    return token(header(), payload)


@pytest.mark.parametrize("raw", [GENESIS, ADMISSION, CREATION, ROTATION, ADDITION])
def test_a_record_reads_back_as_signed(raw: bytes) -> None:
    record = read_record(raw)
    payload = payload_of(raw)
    assert record.raw == raw
    assert record.signer == user("ada")
    assert record.type == payload["type"]
    assert record.body.model_dump(mode="json", exclude_none=True) == payload["body"]
    assert (record.bus, record.log, record.sequence, record.at) == (payload["bus"], payload["log"], payload["seq"], AT)


NON_CANONICAL = ANY_DIGEST[:-1] + "B"  # decodes to the same 32 bytes where readers are lenient
DEVIATIONS: list[tuple[bytes, str, object]] = [
    (ADMISSION, "v", 2),
    (ADMISSION, "v", 1.0),
    (ADMISSION, "v", True),
    (ADMISSION, "v", REMOVED),
    (ADMISSION, "bus", 7),
    (ADMISSION, "bus", "A" * 42),
    (ADMISSION, "bus", NON_CANONICAL),
    (ADMISSION, "log", "room/" + "a" * 26),
    (ADMISSION, "log", "room/" + "a" * 26 + "\n"),
    (ADMISSION, "log", "room/.."),
    (ADMISSION, "log", "Directory"),
    (ADMISSION, "seq", 0),
    (ADMISSION, "seq", "2"),
    (ADMISSION, "seq", 2.0),
    (ADMISSION, "seq", 2**31 + 1),
    (ADMISSION, "prev", NON_CANONICAL),
    (ADMISSION, "prev", ""),
    (ADMISSION, "at", -1),
    (ADMISSION, "at", 2**40 + 1),
    (ADMISSION, "at", 10**400),
    (ADMISSION, "dir", {"seq": 0, "hash": ANY_DIGEST}),
    (ADMISSION, "dir", {"seq": 1, "hash": ANY_DIGEST, "more": 1}),
    (ADMISSION, "type", "user.promote"),
    (ADMISSION, "type", "room.create"),
    (ADMISSION, "type", "\ud800"),
    (ADMISSION, "type", None),
    (ADMISSION, "body", []),
    (ADMISSION, "body", REMOVED),
    (ADMISSION, "body.handle", "Bob"),
    (ADMISSION, "body.handle", "bob\n"),
    (ADMISSION, "body.role", "owner"),
    (ADMISSION, "body.note", "hi"),
    (ADMISSION, "body.card", REMOVED),
    (ADMISSION, "more", None),
    (GENESIS, "body.salt", salt("x")[:-1] + "B"),
    (CREATION, "type", "user.admit"),
    (CREATION, "body.name", "a" * 65),
    (CREATION, "body.history", "all"),
    (CREATION, "body.sealed", NON_CANONICAL),
    (CREATION, "body.epoch.number", 0),
    (CREATION, "body.epoch.number", 2**32),
    (CREATION, "body.epoch.commitment", NON_CANONICAL),
    (CREATION, "body.epoch.commitment", "A" * 44),
    (CREATION, "body.epoch.key", "A" * 43),
    (ROTATION, "body.epoch.previous", "A" * 63),
    (ROTATION, "body.epoch", REMOVED),
    (ADDITION, "body.user", user("bob").lower()),
    (ADDITION, "body.user", user("bob") + "\n"),
    (ADDITION, "body.role", "admin"),
]


@pytest.mark.parametrize(("raw", "path", "value"), DEVIATIONS, ids=[f"{d[1]}={d[2]!r:.30}" for d in DEVIATIONS])
def test_any_deviation_in_form_is_refused(raw: bytes, path: str, value: object) -> None:
    if isinstance(value, str) and not value.isprintable() and "\ud800" in value:
        forged = signed(dump_json(payload_of(raw)).replace(b'"user.admit"', b'"\\ud800"'))
    else:
        forged = altered(raw, path, value)
    with pytest.raises(MalformedRecord) as caught:
        read_record(forged)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "payload",
    [
        b"null",
        b"[]",
        b"",
        b"{}",
        b"\xff",
        dump_json(payload_of(ADMISSION))[:-1] + b',"v":1}',
        dump_json(payload_of(ADMISSION)).decode().encode("utf-16"),
        b'{"body":' + b"[" * 40_000,
    ],
    ids=lambda payload: repr(payload[:10]),
)
def test_a_payload_that_is_not_one_plain_object_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedRecord):
        read_record(signed(payload))


def test_an_unknown_member_cannot_flood_or_paint_the_message() -> None:
    with pytest.raises(MalformedRecord) as caught:
        read_record(altered(ADMISSION, "body.\x1b[2J" + "x" * 30_000, 1))
    assert len(caught.value.message) < 200
    assert "\x1b" not in caught.value.message


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
PATHS = st.sampled_from(
    [
        "v",
        "bus",
        "log",
        "seq",
        "prev",
        "at",
        "dir",
        "type",
        "body",
        "body.epoch",
        "body.sealed",
        "body.user",
        "body.x",
        "x",
    ]
)


@given(st.sampled_from([ADDITION, ROTATION]), PATHS, JSON)
def test_a_record_with_any_member_altered_reads_whole_or_is_refused(raw: bytes, path: str, value: object) -> None:
    try:
        record = read_record(altered(raw, path, value))
    except (MalformedRecord, UnicodeEncodeError):
        return
    assert isinstance(record.body, Strict)
    assert len(record.head.digest) == 32


@given(st.binary(max_size=400))
def test_arbitrary_signed_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(MalformedRecord):
        read_record(signed(payload))


def test_a_card_is_no_record() -> None:
    with pytest.raises(MalformedRecord, match="typ"):
        read_record(identity("ada").card().encode())


def revocation(**changes: Any) -> bytes:
    place: dict[str, Any] = {"bus": STORY.bus, "log": DIRECTORY, "after": STORY.directory.head} | changes
    body = UserRevoke(user=user("bob"))
    return write_record(identity("ada").signing, place["bus"], place["log"], place["after"], body, at=AT)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"bus": ANY_DIGEST}, WrongBus),
        ({"bus": None}, WrongBus),
        ({"after": EMPTY}, HeadConflict),
        ({"after": Head(1, STORY.directory.head.digest)}, HeadConflict),
        ({"after": Head(3, STORY.directory.head.digest)}, HeadConflict),
        ({"after": Head(2, bytes(32))}, HeadConflict),
    ],
)
def test_a_record_that_is_not_the_next_of_its_chain_is_refused(
    changes: dict[str, Any], error: type[UnibusError]
) -> None:
    with pytest.raises(error) as caught:
        chain(read_record(revocation(**changes)), STORY.bus, DIRECTORY, STORY.directory.head)
    if error is HeadConflict:
        assert caught.value.extra == {"sequence": 2, "hash": STORY.directory.head.hash}
    with pytest.raises(error):
        STORY.directory.check(read_record(revocation(**changes)))
    with pytest.raises(MalformedRecord, match="belongs to the log"):
        chain(read_record(ADDITION), STORY.bus, DIRECTORY, STORY.directory.head)


def test_a_first_record_with_a_predecessor_is_refused() -> None:
    forged = read_record(altered(GENESIS, "prev", ANY_DIGEST))
    with pytest.raises(HeadConflict):
        chain(forged, None, DIRECTORY, EMPTY)


def test_the_id_of_a_room_depends_on_all_that_names_it() -> None:
    ids = {
        room_id(bus, creator, text)
        for bus in (STORY.bus, ANY_DIGEST)
        for creator in (user("ada"), user("bob"))
        for text in (salt("a"), salt("b"))
    }
    assert len(ids) == 8
    assert all(len(room) == 26 for room in ids)


def test_the_head_is_the_hash_of_the_exact_bytes() -> None:
    assert read_record(GENESIS).head == Head(1, unb64u(STORY.bus))
    assert b64u(read_record(ADMISSION).previous or b"") == STORY.bus
