"""Small builders that tests share: identities from fixed secrets, and a story of a bus whose logs grow.

What a builder signs is what an honest client would sign; attacks are written out in the tests. Everything is the same
on every run. Sealed keys are stand-ins of the right length, because neither reducers nor services can open one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256, shake_256

from unibus.crypto.encoding import b64u
from unibus.crypto.heads import EMPTY, Head
from unibus.crypto.identity import Identity
from unibus.crypto.roomkey import commitment, link, sealed_digest
from unibus.crypto.sealing import SEALED_BYTES
from unibus.model.bodies import (
    BusCreate,
    Epoch,
    History,
    Role,
    RoomAdd,
    RoomCreate,
    RoomRemove,
    RoomRole,
    RoomRotate,
    Strict,
    UserAdmit,
    UserRevoke,
)
from unibus.model.directory import Directory
from unibus.model.records import DIRECTORY, Record, read_record, room_id, room_log, write_record
from unibus.model.room import Room

AT = 1_800_000_000
"""The Unix time at which all stories are signed."""
ANY_DIGEST = b64u(bytes(32))


@cache
def identity(name: str) -> Identity:
    """The identity that all tests mean by `name`."""
    return Identity.from_secret(sha256(b"unibus test identity " + name.encode()).digest())


def user(name: str) -> str:
    """The public nkey of `name`."""
    return identity(name).user


def salt(text: str) -> str:
    """A fixed salt for a record."""
    return b64u(sha256(text.encode()).digest()[:16])


def stand_in_keys(users: Iterable[str]) -> dict[str, bytes]:
    """What could be sealed keys of `users`: bytes of the right length that differ."""
    return {name: shake_256(name.encode()).digest(SEALED_BYTES) for name in users}


@dataclass(frozen=True)
class Change:
    """A signed record of a room, with the sealed keys that it commits to."""

    raw: bytes
    sealed: Mapping[str, bytes] = field(default_factory=dict)


class Story:
    """A bus from its first record on. Methods named by nouns only sign; those named by verbs also apply."""

    def __init__(self, admin: str = "ada", at: int = AT) -> None:
        self.at = at
        self.directory = Directory()
        self.records: list[bytes] = []
        body = BusCreate(handle=admin, card=identity(admin).card(), salt=salt("bus of " + admin))
        self.take(write_record(identity(admin).signing, None, DIRECTORY, EMPTY, body, at=at))

    @property
    def bus(self) -> str:
        assert self.directory.bus is not None
        return self.directory.bus

    def sign(self, by: str, body: Strict) -> bytes:
        return write_record(identity(by).signing, self.bus, DIRECTORY, self.directory.head, body, at=self.at)

    def admission(self, name: str, *, by: str = "ada", role: Role = "member", handle: str | None = None) -> bytes:
        return self.sign(by, UserAdmit(handle=handle or name, role=role, card=identity(name).card()))

    def revocation(self, name: str, *, by: str = "ada") -> bytes:
        return self.sign(by, UserRevoke(user=user(name)))

    def take(self, raw: bytes) -> Record:
        record = read_record(raw)
        self.directory.check(record)
        self.directory.apply(record)
        self.records.append(raw)
        return record

    def admit(self, *names: str, role: Role = "member") -> None:
        for name in names:
            self.take(self.admission(name, role=role))

    def revoke(self, name: str, *, by: str = "ada") -> None:
        self.take(self.revocation(name, by=by))


class RoomStory:
    """A room of a story, created by `owner`."""

    def __init__(self, story: Story, owner: str = "ada", *, history: History = "shared", name: str = "plans") -> None:
        self.story = story
        self.records: list[bytes] = []
        self.state = Room(story.bus, room_id(story.bus, user(owner), salt(name)))
        self.created = self.sign(
            owner,
            RoomCreate(name=name, salt=salt(name), history=history, epoch=self.epoch(history), sealed=ANY_DIGEST),
        )
        self.take(self.created)

    @property
    def id(self) -> str:
        return self.state.id

    def key(self, number: int) -> bytes:
        """The room key of epoch `number`."""
        return sha256(f"key {number} of {self.id}".encode()).digest()

    def epoch(self, history: History | None = None) -> Epoch:
        """The next epoch, as an honest member starts it."""
        number = len(self.state.epochs) + 1
        ref, key = self.state.epoch_ref(number), self.key(number)
        shared = (history or self.state.history) == "shared" and number > 1
        previous = b64u(link(key, ref, self.key(number - 1))) if shared else None
        return Epoch(number=number, commitment=b64u(commitment(key, ref)), previous=previous)

    def sign(self, by: str, body: Strict, *, knows: Head | None = None) -> Change:
        """`body` signed as the room's next record, with stand-in keys for whom it says the key must go to."""
        sealed = stand_in_keys(self.state.recipients(self._record(by, body, knows), self.story.directory))
        body = body.model_copy(update={"sealed": b64u(sealed_digest(sealed))})
        return Change(self._record(by, body, knows).raw, sealed)

    def _record(self, by: str, body: Strict, knows: Head | None) -> Record:
        directory = knows or self.story.directory.head
        log, head = room_log(self.id), self.state.head
        return read_record(
            write_record(identity(by).signing, self.story.bus, log, head, body, at=self.story.at, directory=directory)
        )

    def addition(
        self, name: str, *, by: str = "ada", role: RoomRole = "member", rekey: bool = False, knows: Head | None = None
    ) -> Change:
        epoch = self.epoch() if rekey or self.state.history == "since-join" else None
        return self.sign(by, RoomAdd(user=user(name), role=role, epoch=epoch, sealed=ANY_DIGEST), knows=knows)

    def removal(self, name: str, *, by: str = "ada", knows: Head | None = None) -> Change:
        return self.sign(by, RoomRemove(user=user(name), epoch=self.epoch(), sealed=ANY_DIGEST), knows=knows)

    def rotation(self, *, by: str = "ada", knows: Head | None = None) -> Change:
        return self.sign(by, RoomRotate(epoch=self.epoch(), sealed=ANY_DIGEST), knows=knows)

    def take(self, change: Change) -> Record:
        record = read_record(change.raw)
        self.state.check(record, self.story.directory)
        self.state.apply(record, self.story.directory)
        self.records.append(change.raw)
        return record

    def add(self, *names: str, role: RoomRole = "member") -> None:
        for name in names:
            self.take(self.addition(name, role=role))
