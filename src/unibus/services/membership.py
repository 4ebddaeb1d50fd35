"""The only writer of logs: takes signed records, lets the reducers judge them, appends, and has the bus follow.

Every append runs to its end once it has begun, also when the request that brought it is gone: record, state and
consequences never part. Repeating a record that is in the log already is answered as the first time.
"""

import asyncio
import hmac
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from unibus.crypto.encoding import unb64u
from unibus.crypto.heads import Head
from unibus.crypto.roomkey import sealed_digest
from unibus.crypto.sealing import SEALED_BYTES
from unibus.errors import (
    BootstrapRefused,
    Forbidden,
    HeadConflict,
    InvalidInput,
    LogForked,
    MalformedRecord,
    NotAUser,
    NotFound,
    RuleBroken,
    UnibusError,
)
from unibus.model.bodies import RoomAdd, RoomCreate, RoomLeave, RoomRemove, RoomRetention, RoomSetRole, UserJoin
from unibus.model.directory import Directory
from unibus.model.records import DIRECTORY, Record, read_record, room_log
from unibus.model.room import Room, check_sealed
from unibus.services.audit import NOBODY, Audit
from unibus.services.books import Books
from unibus.services.consequences import Action, after_directory, after_room, perform, taken_by
from unibus.services.following import takes_away
from unibus.services.gate import check_invite_of_restored, member_mark, retention_mark
from unibus.services.ports import BusEffects
from unibus.store.port import Append, Store

CLOCK_TOLERANCE = 300  # seconds between a record's `at` and this node's clock


class Membership:
    """Appends to the directory and to rooms. `clock` gives Unix seconds.

    `bootstrap` gives the token that founds the bus, None once it is founded; `founded` is called after that happened.
    """

    def __init__(
        self,
        books: Books,
        store: Store,
        effects: BusEffects,
        clock: Callable[[], float],
        *,
        audit: Audit,
        bootstrap: Callable[[], str | None],
        founded: Callable[[], None],
    ) -> None:
        self._books = books
        self._store = store
        self._effects = effects
        self._clock = clock
        self._audit = audit
        self._bootstrap = bootstrap
        self._founded = founded
        self._running: set[asyncio.Task[Head]] = set()

    async def found(self, token: str, raw: bytes) -> Head:
        """Append the genesis record of the bus, against the one-time bootstrap token.

        Raises BootstrapRefused, StorageUnavailable, or as `Directory.check`.
        """
        self._books.check_current()
        check_bootstrap(token, self._bootstrap(), self._audit, "bus.create")
        record = read_record(raw)
        return await self._audited(record, self._append_genesis(record))

    async def append_directory(self, actor: str, raw: bytes) -> Head:
        """Append a directory record that `actor` signed. Raises as `Directory.check`."""
        record = self._read(actor, raw, DIRECTORY)
        if record.sequence == 1:
            raise RuleBroken("this bus exists already")
        return await self._audited(record, self._append_directory(record))

    async def join(self, invite: str, raw: bytes) -> Head:
        """Append the record by which somebody joins who proved to hold `invite`. Raises as `Directory.check`."""
        record = read_record(raw)
        if not isinstance(record.body, UserJoin) or record.body.invite != invite:
            raise Forbidden("an invite is good for joining by it, and for nothing else")
        check_invite_of_restored(self._books, invite)
        return await self._audited(record, self._append_directory(record))

    async def append_room(self, actor: str, room: str, raw: bytes, sealed: Mapping[str, bytes]) -> Head:
        """Append a room record that `actor` signed, with the sealed keys that it commits to, in one atomic step.

        Raises as `Room.check`; RuleBroken when the sealed keys are not exactly the recipients'.
        """
        record = self._read(actor, raw, room_log(room))
        return await self._audited(record, self._append_room(record, room, sealed))

    def _read(self, actor: str, raw: bytes, log: str) -> Record:
        record = read_record(raw)
        if record.signer != actor:
            raise Forbidden("a record is brought by who signed it")
        if record.log != log:
            raise MalformedRecord(f"this record belongs to the log {record.log}, not to {log}")
        return record

    async def _audited(self, record: Record, work: Coroutine[Any, Any, Head]) -> Head:
        # The audit line is the task's too: hanging up must not keep a refusal out of it.
        task = asyncio.create_task(self._audit_work(record, work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _audit_work(self, record: Record, work: Coroutine[Any, Any, Head]) -> Head:
        try:
            return await work
        except UnibusError as error:
            # A newcomer's key cost nothing yet.
            actor = record.signer
            stranger = not self._books.directory.active(actor)
            self._audit.refused(
                record.type, error, actor=actor, target=_target(record), stranger=stranger, log=record.log
            )
            raise

    def _noting(self, record: Record) -> AbstractContextManager[Append]:
        return self._audit.noting(
            record.type, actor=record.signer, target=_target(record), log=record.log, sequence=record.sequence
        )

    async def _repeated(self, record: Record) -> None:
        with self._noting(record) as entry:
            await self._store.append(entry)

    async def close(self) -> None:
        """Wait for the appends that have begun."""
        if self._running:
            await asyncio.wait(self._running)

    async def _append_genesis(self, record: Record) -> Head:
        head = await self._append_directory(record)
        self._founded()
        return head

    async def _append_directory(self, record: Record) -> Head:
        books = self._books
        async with books.lock(DIRECTORY):
            if await self._is_repeat(record, books.directory.head):
                await self._repeated(record)
                actions: Sequence[Action] = ()
            else:
                self._check_time(record)
                books.directory.check(record)
                with self._noting(record) as entry:
                    await books.extend(record, None, beside=(entry,))
                actions = after_directory(record, books.directory)
        await self._follow(record, actions)
        return record.head

    async def _append_room(self, record: Record, room: str, sealed: Mapping[str, bytes]) -> Head:
        books = self._books
        async with books.lock(record.log):
            state = await self._room_for(record, room)
            try:
                actions = await self._extend_room(record, state, sealed)
            except HeadConflict:
                if not isinstance(record.body, RoomCreate) or state.head.sequence == 0:
                    raise
                # The room was there. Its maker may say so again; for whoever is not in it there is no such room.
                actions = await self._extend_room(record, await books.room(room), sealed)
        await self._follow(record, actions)
        return record.head

    async def _extend_room(self, record: Record, state: Room, sealed: Mapping[str, bytes]) -> Sequence[Action]:
        """What follows from `record`, once it stands: nothing, if it stood already."""
        books = self._books
        if await self._is_repeat(record, state.head):
            await self._repeated(record)
            return ()
        self._check_member(record, state)
        self._check_time(record)
        self._check_rules(record, state)
        check_sealed_keys(state, record, sealed, books.directory)
        with self._noting(record) as entry:
            await books.extend(record, state, attachments=sealed, marks=marks_of(record, state), beside=(entry,))
        return after_room(record, state, books.directory)

    async def _room_for(self, record: Record, room: str) -> Room:
        bus = self._books.directory.bus
        if bus is None:
            raise RuleBroken("this bus has no users yet")
        if isinstance(record.body, RoomCreate) and not self._books.holds(room):
            return Room(bus, room)  # the store finds out whether it is there, and nothing is read for that
        return await self._books.room(room)

    async def _is_repeat(self, record: Record, head: Head) -> bool:
        if record.sequence > head.sequence:
            return False
        found = await self._store.entries(record.log, record.sequence - 1, 1)
        return bool(found) and found[0].value == record.raw

    def _check_time(self, record: Record) -> None:
        if abs(record.at - self._clock()) > CLOCK_TOLERANCE:
            raise InvalidInput("the record's time is over five minutes off this node's clock: set one of them right")

    def _check_member(self, record: Record, state: Room) -> None:
        if not self._books.directory.active(record.signer):
            raise NotAUser
        # Before anything else about the room: its head is no business of whoever is not, or no longer, in it.
        if state.head.sequence and record.signer not in state.roles:
            raise NotFound("there is no such room for you")

    def _check_rules(self, record: Record, state: Room) -> None:
        directory = self._books.directory
        try:
            state.check(record, directory)
        except LogForked as error:
            # A client says so of a server. Seen from here it is the record that names a directory nobody has.
            raise _directory_moved(directory) from error
        # A room's record must know of every revocation, or it would seal the new key to somebody who is out.
        if record.directory is None or record.directory.sequence < directory.last_revocation:
            raise _directory_moved(directory)

    async def _follow(self, record: Record, actions: Sequence[Action]) -> None:
        await perform(actions, self._effects)
        taken = taken_by(actions)
        # Whoever was asked first may have ended before the other nodes had followed, so a repeated record waits, too.
        if taken or (not actions and takes_away(record.raw)):
            await self._effects.took_effect(record.log, record.sequence, taken)


def _target(record: Record) -> str | None:
    named = record.body.__dict__  # a model is slow to say that it has no such field
    target: str | None = named.get("user") or named.get("invite")
    return target


def _directory_moved(directory: Directory) -> HeadConflict:
    head = directory.head
    return HeadConflict(
        "the directory has moved on: fetch what is new and sign again",
        log=DIRECTORY,
        sequence=head.sequence,
        hash=head.hash,
    )


def check_bootstrap(token: str, wanted: str | None, audit: Audit, action: str) -> None:
    """Return if `token` is the one that is `wanted`; None wants none any more. Raises BootstrapRefused."""
    # A header's bytes that are no UTF-8 arrive as surrogates, which only "surrogatepass" encodes.
    given = token.encode("utf-8", "surrogatepass")
    if wanted is None or not hmac.compare_digest(given, wanted.encode()):
        refusal = BootstrapRefused()
        audit.refused(action, refusal, actor=NOBODY)
        raise refusal


def check_sealed_keys(state: Room, record: Record, sealed: Mapping[str, bytes], directory: Directory) -> None:
    """Check that `sealed` are the keys that `record` commits to, for exactly whom they must be for.

    `record` is not applied to `state` yet. Raises RuleBroken, InvalidInput.
    """
    check_sealed(state, record, sealed, directory)
    if any(len(key) != SEALED_BYTES for key in sealed.values()):
        raise InvalidInput(f"a sealed key has {SEALED_BYTES} bytes")
    committed = getattr(record.body, "sealed", None)
    if committed is not None and sealed_digest(sealed) != unb64u(committed):
        raise RuleBroken("the sealed keys are not those that the record was signed for")


def marks_of(record: Record, state: Room) -> dict[str, bytes | None]:
    """What a room's record changes in the marks."""
    match record.body:
        case RoomCreate():
            return {member_mark(record.signer, state.id): b"owner"}
        case RoomAdd(user=user, role=role) | RoomSetRole(user=user, role=role):
            return {member_mark(user, state.id): role.encode()}
        case RoomRemove(user=user):
            return {member_mark(user, state.id): None}
        case RoomRetention() as body:
            kept = body.model_dump_json().encode() if body.seconds or body.bytes else None
            return {retention_mark(state.id): kept}
        case RoomLeave(successor=successor):
            left: dict[str, bytes | None] = {member_mark(record.signer, state.id): None}
            return left | ({member_mark(successor, state.id): b"owner"} if successor else {})
        case _:
            return {}
