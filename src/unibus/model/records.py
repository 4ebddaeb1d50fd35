"""Records: signed, hash-chained entries of the directory's and the rooms' logs.

A record is a compact JWS (`crypto.jws`) of typ `unibus-record+jws` whose payload is

    {"v": 1, "bus": id or null, "log": name, "seq": n, "prev": hash or null, "at": Unix seconds,
     "dir": {"seq": n, "hash": h} or null, "type": t, "body": {…}}

`bus` is null in the one record that makes the bus; `dir`, in room logs, is the directory head that the signer knew.
`read_record` checks form and signatures only; `chain` checks that a record is the next of its log. Rights
are the reducers' (`directory`, `room`). Bytes are kept as signed and never made again.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from pydantic import Field, ValidationError

from unibus.crypto import heads, jws
from unibus.crypto.encoding import dump_json, load_json, transcript, unb64u
from unibus.crypto.heads import Head
from unibus.crypto.identity import Card, read_card
from unibus.crypto.invites import proves
from unibus.crypto.nkeys import SigningKey
from unibus.errors import HeadConflict, InvalidInput, MalformedRecord, NameInvalid, UnibusError, WrongBus
from unibus.model.bodies import DIRECTORY_TYPES, ROOM_TYPES, BusCreate, Digest, Strict, UserAdmit, UserJoin

TYP = "unibus-record+jws"
DIRECTORY = "directory"
ROOM_PREFIX = "room/"
TYPES = DIRECTORY_TYPES | ROOM_TYPES
NAMES = frozenset({"handle", "name"})
"""The members of bodies that name somebody or something for people."""
_NEWCOMERS = (BusCreate, UserAdmit, UserJoin)


class DirectoryRef(Strict):
    """A head of the directory, as a room's record names it."""

    seq: Annotated[int, Field(ge=1)]
    hash: Digest


class Payload(Strict):
    """What is signed, with the body still to be read by its type."""

    v: Annotated[int, Field(ge=1, le=1)]
    bus: Digest | None
    log: Annotated[str, Field(pattern=r"^(directory|room/[a-z2-7]{26})$")]
    seq: Annotated[int, Field(ge=1, le=2**31)]
    prev: Digest | None
    at: Annotated[int, Field(ge=0, le=2**40)]
    dir: DirectoryRef | None
    type: str
    body: dict[str, object]


@dataclass(frozen=True, slots=True)
class Record:
    """One verified record: `raw` as signed, `signer` (`U…`), what it says, and its place.

    `card` is whom it brings onto the bus, if anybody; `invited` says that the invite which it names proves that one.
    """

    raw: bytes
    signer: str
    bus: str | None
    log: str
    previous: bytes | None
    head: Head
    at: int
    directory: Head | None
    type: str
    body: Strict
    card: Card | None
    invited: bool

    @property
    def sequence(self) -> int:
        return self.head.sequence

    @property
    def newcomer(self) -> Card:
        """The card of whom this record brings onto the bus. Raises MalformedRecord where that is nobody."""
        if self.card is None:
            raise MalformedRecord("this record brings nobody onto the bus")
        return self.card


def room_log(room: str) -> str:
    """The log's name of a room id."""
    return ROOM_PREFIX + room


def room_id(bus: str, creator: str, salt: str) -> str:
    """The id of the room that `creator` makes with `salt`: a hash, so that nobody can make another room of that id."""
    digest = sha256(transcript("unibus room id v1", bus, creator, salt)).digest()
    return base64.b32encode(digest[:20]).decode("ascii").lower()[:26]


def write_record(
    key: SigningKey,
    bus: str | None,
    log: str,
    after: Head,
    body: Strict,
    *,
    at: int,
    directory: Head | None = None,
) -> bytes:
    """The record that follows `after` in `log`, signed. `at` is Unix seconds."""
    kind = next(name for name, model in TYPES.items() if model is type(body))
    return jws.sign(
        key,
        TYP,
        dump_json(
            {
                "v": 1,
                "bus": bus,
                "log": log,
                "seq": after.sequence + 1,
                "prev": after.hash if after.sequence else None,
                "at": at,
                "dir": {"seq": directory.sequence, "hash": directory.hash} if directory else None,
                "type": kind,
                "body": body.model_dump(mode="json", exclude_none=True),
            }
        ),
    )


def read_record(raw: bytes) -> Record:
    """Check form and all signatures in it: whatever can be said of a record alone. Raises MalformedRecord."""
    verified = jws.verify_compact(raw, TYP)
    try:
        payload = Payload.model_validate(load_json(verified.payload))
        model = (DIRECTORY_TYPES if payload.log == DIRECTORY else ROOM_TYPES).get(payload.type)
        if model is None:
            raise MalformedRecord(f"the {payload.log.partition('/')[0]} log knows no record type {payload.type[:40]!r}")
        body = model.model_validate(payload.body)
        card = _card(body.card) if isinstance(body, _NEWCOMERS) else None
        return Record(
            raw=raw,
            signer=verified.signer,
            bus=payload.bus,
            log=payload.log,
            previous=unb64u(payload.prev, size=32) if payload.prev else None,
            head=Head(payload.seq, heads.digest(raw)),
            at=payload.at,
            directory=Head(payload.dir.seq, unb64u(payload.dir.hash, size=32)) if payload.dir else None,
            type=payload.type,
            body=body,
            card=card,
            invited=card is not None
            and isinstance(body, UserJoin)
            and proves(payload.bus or "", body.invite, card.user, body.proof),
        )
    except ValidationError as error:
        place = error.errors()[0]["loc"]
        where = ".".join(str(part) for part in place)
        kind = NameInvalid if NAMES.intersection(place) else MalformedRecord
        raise kind(f"a record's member {where[:80]!r} is missing, unknown or of the wrong form") from error
    except InvalidInput as error:
        raise MalformedRecord(f"a record's payload does not read: {error}") from error


def read_records(raws: Iterable[bytes]) -> list[Record | UnibusError]:
    """As `read_record`, one after another up to the first that does not hold: the last item is then why."""
    found: list[Record | UnibusError] = []
    try:
        for raw in raws:
            found.append(read_record(raw))
    except UnibusError as error:
        found.append(error)
    return found


def _card(text: str) -> Card:
    try:
        return read_card(text)
    except InvalidInput as error:
        raise MalformedRecord(f"a record carries a card that does not hold: {error}") from error


def chain(record: Record, bus: str | None, log: str, head: Head) -> None:
    """Check that `record` follows `head` in `log` of `bus`. Raises WrongBus, HeadConflict, MalformedRecord."""
    if record.log != log:
        raise MalformedRecord(f"this record belongs to the log {record.log}, not to {log}")
    if record.bus != bus:
        raise WrongBus("this record was signed for another bus")
    if record.sequence != head.sequence + 1 or record.previous != (head.digest if head.sequence else None):
        raise HeadConflict(
            f"the log's head is record {head.sequence}: fetch what is new and sign again",
            sequence=head.sequence,
            hash=head.hash,
        )
