"""The vectors hold, as a client in another language would try them, and making them again changes nothing."""

import json
from hashlib import sha256
from typing import Any

import pytest

from tests.vectors.blobs import plain
from tests.vectors.generate import HERE, vectors
from unibus.crypto import nkeys
from unibus.crypto.blobs import CHUNK, Opener, seal_chunks, sealed_size
from unibus.crypto.encoding import b64u, unb64u
from unibus.crypto.frames import MESSAGES, Content, open_frame, read_envelope, seal_frame, session_anew
from unibus.crypto.heads import Head
from unibus.crypto.identity import Identity, read_card
from unibus.crypto.invites import proves, read_token
from unibus.crypto.roomkey import EpochRef, follow_link, open_sealed, sealed_digest
from unibus.errors import BY_CODE, UnibusError
from unibus.model.blobs import manifest_purpose
from unibus.model.directory import Directory, reduce_directory
from unibus.model.records import TYPES, read_record
from unibus.model.room import reduce_room

Case = dict[str, Any]


def load(name: str, *path: str) -> Any:
    value = json.loads((HERE / name).read_text("utf-8"))
    for part in path:
        value = value[part]
    return value


def cases(name: str, *path: str) -> pytest.MarkDecorator:
    """One test for each case in a file."""
    found = load(name, *path)
    assert found
    return pytest.mark.parametrize("case", found, ids=[case["comment"] for case in found])


def epoch(case: Case) -> EpochRef:
    return EpochRef(case["bus"], case["room"], case["number"])


def head(case: Case) -> Head:
    return Head(case["sequence"], unb64u(case["hash"]))


def refused(error: str) -> Any:
    return pytest.raises(BY_CODE[error])


def test_making_them_again_changes_nothing() -> None:
    for name, text in vectors().items():
        assert (HERE / name).read_text("utf-8") == text, f"{name}: run python -m tests.vectors.generate"


@cases("nkeys.json", "keys")
def test_nkeys(case: Case) -> None:
    raw = bytes.fromhex(case["bytes_hex"])
    assert nkeys.decode_public(case["public"], case["kind"]) == raw
    assert nkeys.decode_seed(case["seed"], case["kind"]) == raw


@cases("nkeys.json", "refused")
def test_refused_nkeys(case: Case) -> None:
    with refused(case["error"]):
        nkeys.decode_public(case["public"])


@cases("nkeys.json", "signatures")
def test_signatures(case: Case) -> None:
    signature = bytes.fromhex(case["signature_hex"])
    assert nkeys.verify(case["public"], case["text"].encode(), signature) == case["holds"]


@cases("identities.json", "identities")
def test_identities(case: Case) -> None:
    identity = Identity.from_seed(case["seed"])
    assert (identity.user, identity.sealing.public.hex(), identity.card()) == (
        case["user"],
        case["sealing_hex"],
        case["card"],
    )
    assert read_card(case["card"]).user == case["user"]


@cases("identities.json", "refused")
def test_refused_cards(case: Case) -> None:
    with refused(case["error"]):
        read_card(case["card"])


LOGS = ("records.json", "changes.json")


def directory(name: str) -> Directory:
    records = load(name, "directory", "records")
    return reduce_directory(read_record(case["record"].encode()) for case in records)


@pytest.mark.parametrize("name", LOGS)
def test_the_directory(name: str) -> None:
    state = directory(name)
    assert state.bus == load(name, "directory", "bus")
    for case in load(name, "directory", "records"):
        assert state.head_at(case["head"]["sequence"]) == head(case["head"])


@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name in LOGS for case in load(name, "directory", "refused")],
    ids=lambda value: value["comment"] if isinstance(value, dict) else value,
)
def test_refused_directory_records(name: str, case: Case) -> None:
    with pytest.raises(UnibusError) as caught:
        directory(name).check(read_record(case["record"].encode()))
    assert caught.value.code == case["error"]


@pytest.mark.parametrize(
    ("name", "room"),
    [(name, room) for name in LOGS for room in load(name, "rooms")],
    ids=lambda value: value["room"] if isinstance(value, dict) else value,
)
def test_rooms_and_refused_room_records(name: str, room: Case) -> None:
    users = directory(name)
    records = [read_record(case["record"].encode()) for case in room["records"]]
    state = reduce_room(users.bus or "", room["room"], records, users)
    assert (state.history, state.roles) == (room["history"], room["roles"])
    assert (state.epoch.number, sorted(state.holders())) == (room["epoch"], room["holders"])
    assert [record.head.hash for record in records] == [case["head"]["hash"] for case in room["records"]]
    for case in room["refused"]:
        with pytest.raises(UnibusError) as caught:
            state.check(read_record(case["record"].encode()), users)
        assert caught.value.code == case["error"], case["comment"]


def test_every_type_of_record_is_there() -> None:
    logs = [log for name in LOGS for log in (load(name, "directory"), *load(name, "rooms"))]
    assert {case["comment"] for log in logs for case in log["records"]} == set(TYPES)


def opened(case: Case) -> bytes:
    identity, sealed = Identity.from_seed(case["seed"]), bytes.fromhex(case["sealed_hex"])
    return open_sealed(identity, sealed, epoch(case), bytes.fromhex(case["committed_hex"]))


@cases("room-keys.json", "sealed")
def test_sealed_keys(case: Case) -> None:
    assert opened(case).hex() == case["room_key_hex"]


@cases("room-keys.json", "sealed_refused")
def test_refused_sealed_keys(case: Case) -> None:
    with refused(case["error"]):
        opened(case)


def followed(case: Case) -> bytes:
    key, linked = bytes.fromhex(case["room_key_hex"]), bytes.fromhex(case["linked_hex"])
    return follow_link(key, epoch(case), linked, bytes.fromhex(case["committed_before_hex"]))


@cases("room-keys.json", "links")
def test_links(case: Case) -> None:
    assert followed(case).hex() == case["previous_key_hex"]


@cases("room-keys.json", "links_refused")
def test_refused_links(case: Case) -> None:
    with refused(case["error"]):
        followed(case)


def test_digests_of_sealed_keys() -> None:
    for case in load("room-keys.json", "digests"):
        sealed = {user: bytes.fromhex(text) for user, text in case["sealed_hex"].items()}
        assert sealed_digest(sealed).hex() == case["digest_hex"]


@cases("frames.json", "frames")
def test_frames(case: Case) -> None:
    messages = tuple(bytes.fromhex(text) for text in case["messages_hex"])
    content = Content(case["sent_at_ms"], head(case["room_head"]), head(case["directory_head"]), messages)
    key, session = bytes.fromhex(case["room_key_hex"]), bytes.fromhex(case["session_hex"])
    signing = Identity.from_seed(case["seed"]).signing
    frame = seal_frame(signing, key, epoch(case), session, case["counter"], content, unsettled=case["unsettled"])
    assert frame.hex() == case["frame_hex"]
    assert open_frame(frame, read_envelope(frame), key, epoch(case)) == content


@cases("frames.json", "refused")
def test_refused_frames(case: Case) -> None:
    frame, key = bytes.fromhex(case["frame_hex"]), bytes.fromhex(case["room_key_hex"])
    with refused(case["error"]):
        open_frame(frame, read_envelope(frame), key, epoch(case))


@cases("frames.json", "sealed_anew")
def test_sessions_of_frames_sealed_anew(case: Case) -> None:
    assert session_anew(bytes.fromhex(case["session_hex"]), case["counter"]).hex() == case["anew_hex"]


def opened_blob(key: bytes, sealed: bytes) -> bytes:
    opener, into = Opener(key), memoryview(bytearray(len(sealed) + CHUNK))
    size = opener.update(sealed, into)
    return bytes(into[: size + opener.finish(into[size:])])


@cases("blobs.json", "blobs")
def test_blobs(case: Case) -> None:
    key, data = bytes.fromhex(load("blobs.json", "key_hex")), plain(case["size"])
    sealed = seal_chunks(key, data, 0, ends=True)
    assert len(sealed) == case["sealed_size"] == sealed_size(case["size"])
    assert b64u(sha256(sealed).digest()) == case["id"]
    assert (sealed[:32].hex(), sealed[-32:].hex()) == (case["begins_hex"], case["ends_hex"])
    assert opened_blob(key, sealed) == data


@cases("blobs.json", "refused")
def test_refused_blobs(case: Case) -> None:
    with refused(case["error"]):
        opened_blob(bytes.fromhex(load("blobs.json", "key_hex")), bytes.fromhex(case["sealed_hex"]))


def test_a_blob_cut_at_a_chunk_is_refused() -> None:
    case, key = load("blobs.json", "cut_at_a_chunk"), bytes.fromhex(load("blobs.json", "key_hex"))
    sealed = seal_chunks(key, plain(65_536), 0, ends=False)
    assert b64u(sha256(sealed).digest()) == case["sealed_sha256"]
    with refused(case["error"]):
        opened_blob(key, sealed)


def test_a_manifest_opens_for_its_blob_only() -> None:
    case = load("blobs.json", "manifest")
    frame, key = bytes.fromhex(case["frame_hex"]), bytes.fromhex(case["room_key_hex"])
    envelope = read_envelope(frame)
    assert envelope.sender == case["sender"]
    content = open_frame(frame, envelope, key, epoch(case), manifest_purpose(case["blob"]))
    assert json.loads(content.messages[0]) == case["manifest"]
    for purpose in (MESSAGES, manifest_purpose(case["another_blob"])):
        with refused(case["error"]):
            open_frame(frame, envelope, key, epoch(case), purpose)


def test_an_invite() -> None:
    case = load("blobs.json", "invite")
    token = read_token(case["token"])
    assert (token.bus, token.key.public, token.url) == (case["bus"], case["invite"], case["url"])
    assert token.key.seed.hex() == case["seed_hex"]
    assert token.prove(case["user"]) == case["proof"]
    assert proves(case["bus"], case["invite"], case["user"], case["proof"])
    assert not proves(case["bus"], case["invite"], case["invite"], case["proof"])
