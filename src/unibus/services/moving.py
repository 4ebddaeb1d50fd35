"""Taking in a bus that comes from another node: verified before a byte of it counts, compared when all of it is there.

Manifest and records come first and are verified as those of a backup. Then the store notes that a move has begun, so
that no node serves, and takes the record that made the bus: of two who bring or found one, one wins. Blobs, messages
and records follow, each skipped where it is there already, and a last note makes it the bus. Only who holds the
bootstrap token may do any of it. Must never touch a bus that is there.
"""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from unibus.crypto.encoding import b64u, unb64u
from unibus.crypto.httpsig import WINDOW
from unibus.errors import BackupInvalid, InvalidInput, RuleBroken, StorageUnavailable, is_disk_full
from unibus.model.backup import MANIFEST, Messages, Records, StoredBlob
from unibus.model.moving import MoveView
from unibus.model.records import DIRECTORY
from unibus.services.audit import NOBODY, Audit
from unibus.services.books import Books
from unibus.services.membership import check_bootstrap
from unibus.services.moves import Move, last_move, note_move
from unibus.services.moving_plan import Plan, place_of, read_plan
from unibus.services.moving_records import compare, copy_records
from unibus.services.ports import MessagesPlace
from unibus.services.unpacking import Manifest
from unibus.services.verifying import verify_blob, verify_records
from unibus.store.blob_port import BlobStore, Held, Upload
from unibus.store.port import Append, PositionTaken, Store
from unibus.store.snapshot import read_snapshot

_ANEW = "go on with that one, or start the cluster anew, with empty data directories"


class Moving:
    """Takes in one bus, in steps that may each be repeated. `work` is a directory of its own, for copies.

    `bootstrap` gives the token that founds the bus, None once it is founded; `clock` gives Unix seconds. `shared` says
    that the store is a cluster's: any other takes no bus in. Every method raises BootstrapRefused, RuleBroken and
    StorageUnavailable.
    """

    def __init__(
        self,
        *,
        books: Books,
        store: Store,
        blobs: BlobStore,
        messages: MessagesPlace,
        audit: Audit,
        bootstrap: Callable[[], str | None],
        clock: Callable[[], float],
        work: Path,
        shared: bool,
    ) -> None:
        self._books = books
        self._store = store
        self._blobs = blobs
        self._messages = messages
        self._audit = audit
        self._bootstrap = bootstrap
        self._clock = clock
        self._work = work
        self._shared = shared
        self._plan: Plan | None = None
        self._turn = asyncio.Lock()
        self._doing, self._done, self._of = "", 0, 0

    def check(self, token: str) -> None:
        """Return if `token` is the one that founds a bus here, and there is none yet."""
        self._books.check_read()
        check_bootstrap(token, self._bootstrap(), self._audit, "bus.move")
        if not self._shared:
            raise RuleBroken("this node keeps its bus in sqlite: start it with --store kv and a --data-dir of its own")

    async def look(self, token: str) -> MoveView:
        """How far it is."""
        self.check(token)
        _, move = await last_move(self._store)
        here = self._plan is not None and await self._messages.holds(self._plan.state)
        told = MoveView(stage="none", messages=here, doing=self._doing, done=self._done, of=self._of)
        if move is None or move.stage == "dropped":
            return told
        return told.model_copy(update={"stage": move.stage, "bus": move.bus, "source": move.source})

    async def take_manifest(self, token: str, blocks: AsyncIterator[bytes]) -> MoveView:
        """Take what names all parts of the bus; nothing of the store changes. Raises InvalidInput."""
        self.check(token)
        async with self._step():
            self._plan = None
            await asyncio.to_thread(shutil.rmtree, self._work, ignore_errors=True)
            await asyncio.to_thread(self._work.mkdir, mode=0o700)
            path = self._work / MANIFEST
            await _write(path, blocks)
            plan = await asyncio.to_thread(read_plan, path)
            if plan.header.at > self._clock() + WINDOW:
                raise InvalidInput("the clock of the bus's old node is ahead of this node's: set one of them right")
            await self._check_move(plan)
            self._plan = plan
        return await self.look(token)

    async def take_records(self, token: str, blocks: AsyncIterator[bytes]) -> MoveView:
        """Take the copy of the store, verify all of it, and begin. From here on no node serves until the end."""
        self.check(token)
        async with self._step():
            plan = self._planned()
            await self._receive(plan.records, blocks)
            genesis = await asyncio.to_thread(self._verify, plan)
            await self._begin(plan, genesis)
            plan.begun = True
        return await self.look(token)

    async def upload(self, token: str, room: str, blob: str) -> Upload | Held:
        """How much of a blob is there; the blob, if all is. Raises NotFound for one that no manifest named."""
        self.check(token)
        part = self._begun().blob(room, blob)
        place = place_of(part)
        found = await self._blobs.find(room, blob) or await self._blobs.upload(place)
        return found if found is not None else Upload(place, part.size, 0, self._clock())

    async def receive(
        self, token: str, room: str, blob: str, offset: int, blocks: AsyncIterator[bytes]
    ) -> Upload | Held:
        """Take a part of a blob; the blob itself, once that was the last one. Raises as `BlobStore` does."""
        self.check(token)
        part = self._begun().blob(room, blob)
        if (held := await self._blobs.find(room, blob)) is not None:
            return held
        await self._blobs.begin(place_of(part), part.size)
        upload = await self._blobs.receive(place_of(part), offset, blocks)
        if upload.received < part.size:
            return upload
        return await self._blobs.finish(place_of(part), unb64u(part.note), part.stored_at)

    async def take_messages(self, token: str, blocks: AsyncIterator[bytes]) -> MoveView:
        """Take the snapshot of the messages, and make a stream of it. Raises BusUnavailable."""
        self.check(token)
        async with self._step():
            plan = self._begun()
            path = await self._receive(plan.messages, blocks)
            self._tell("restoring messages", 0)
            await self._messages.take_in(path, plan.state)
            path.unlink()
        return await self.look(token)

    async def finish(self, token: str) -> MoveView:
        """Copy all records, compare all that is here with all that was sent, and make it the bus.

        Raises BusUnavailable. Any repetition goes on where the last one ended.
        """
        self.check(token)
        async with self._step():
            plan = self._begun()
            await self._check_blobs(plan)
            if not await self._messages.holds(plan.state):
                raise RuleBroken("the messages are not here yet: move them first")
            await self._copy_records(plan)
            bus, source = plan.header.bus, plan.source
            await self._audit.done("bus.move", actor=NOBODY, target=bus, source=source)
            after, _ = await last_move(self._store)
            await note_move(self._store, after, Move(stage="finished", bus=bus, source=source, at=plan.header.at))
            self._plan = None
            await asyncio.to_thread(shutil.rmtree, self._work, ignore_errors=True)
        return MoveView(stage="finished", bus=bus, source=source, messages=True)

    @asynccontextmanager
    async def _step(self) -> AsyncIterator[None]:
        """One step at a time, and what fails about it in words that may be sent."""
        async with self._turn:
            try:
                yield
            except BackupInvalid as error:
                raise RuleBroken(f"what is to be moved does not hold: {error.message}") from error
            except PositionTaken as error:
                raise RuleBroken("another move into this cluster goes on at the same time") from error
            except OSError as error:
                reason = "the disk is full" if is_disk_full(error) else "the disk refuses to read or write"
                raise StorageUnavailable(f"the move cannot go on: {reason}; mend that and try again") from error
            finally:
                self._tell("", 0)

    def _tell(self, doing: str, of: int) -> None:
        self._doing, self._done, self._of = doing, 0, of

    def _progress(self) -> None:
        self._done += 1

    def _planned(self) -> Plan:
        if self._plan is None:
            raise RuleBroken("this node knows nothing of this move: begin again, what is there is kept")
        return self._plan

    def _begun(self) -> Plan:
        plan = self._planned()
        if not plan.begun:
            raise RuleBroken("the records come before all else")
        return plan

    async def _check_move(self, plan: Plan) -> tuple[int, bool]:
        """How many moves were noted, and whether this one is begun. Raises RuleBroken when another one is."""
        after, move = await last_move(self._store)
        begun = move is not None and move.stage == "begun"
        if move is not None and begun and move.bus != plan.header.bus:
            raise RuleBroken(f"the bus {move.bus} is being moved in here: {_ANEW}")
        if move is not None and begun and move.source != plan.source:
            raise RuleBroken(f"this bus is not as it was when its move began: {_ANEW}")
        return after, begun

    async def _receive(self, part: Messages | Records, blocks: AsyncIterator[bytes]) -> Path:
        path = self._work / part.name
        path.unlink(missing_ok=True)
        self._tell("receiving", 0)
        if await _write(path, blocks) != (part.size, part.sha256):
            raise BackupInvalid(f"{part.name} is not what the manifest names")
        return path

    def _verify(self, plan: Plan) -> bytes:
        """Verify records and blobs' manifests; the record that made the bus. Blocks."""
        manifest = Manifest(plan.manifest)
        self._tell("verifying", sum(head.sequence for head in manifest.heads()))
        with read_snapshot(self._work / plan.records.name) as snapshot:
            verified = verify_records(snapshot, plan.header.bus, manifest.heads(), self._progress)
            for part in manifest.parts():
                if isinstance(part, StoredBlob):
                    verify_blob(part, verified)
            # The floor under signed requests is set by that time. What the node's own clock has seen tells of a lie.
            if verified.latest > plan.header.at + WINDOW:
                raise BackupInvalid("it was in use after the time that it names as its end")
            _, genesis, _ = next(snapshot.entries(DIRECTORY))
            return genesis

    async def _begin(self, plan: Plan, genesis: bytes) -> None:
        after, begun = await self._check_move(plan)
        move = Move(stage="begun", bus=plan.header.bus, source=plan.source, at=plan.header.at)
        if not begun:
            await note_move(self._store, after, move)
            after += 1
        try:
            await self._store.append(Append(DIRECTORY, 1, genesis))
        except PositionTaken as error:
            (first,) = await self._store.entries(DIRECTORY, 0, 1)
            if first.value != genesis:
                await note_move(self._store, after, move.model_copy(update={"stage": "dropped"}))
                raise RuleBroken("this cluster has a bus already, which stays as it is") from error

    async def _check_blobs(self, plan: Plan) -> None:
        self._tell("looking for blobs", len(plan.blobs))
        for room, blob in plan.blobs:
            part = plan.blob(room, blob)
            if await self._blobs.find(room, blob) != Held(place_of(part), part.size, unb64u(part.note), part.stored_at):
                raise RuleBroken(f"the blob {blob} is not here yet: move the blobs first")
            self._progress()

    async def _copy_records(self, plan: Plan) -> None:
        manifest, bus = Manifest(plan.manifest), plan.header.bus
        self._tell("copying records", sum(head.sequence for head in manifest.heads()))
        records, copy = self._work / plan.records.name, self._work / "copy.sqlite3"
        with read_snapshot(records, checked=True) as snapshot:
            await copy_records(snapshot, self._store, bus, self._progress)
        self._tell("comparing records", 0)
        await self._store.sync()
        copy.unlink(missing_ok=True)
        await self._store.snapshot(copy)
        await asyncio.to_thread(_compare, records, copy, bus)


def _compare(records: Path, copy: Path, bus: str) -> None:
    with read_snapshot(records, checked=True) as ours, read_snapshot(copy) as theirs:
        compare(ours, theirs, bus)


async def _write(path: Path, blocks: AsyncIterator[bytes]) -> tuple[int, str]:
    """Write the new file `path`; its size and its SHA-256."""
    hasher = hashlib.sha256()
    with path.open("xb") as file:
        async for block in blocks:
            await asyncio.to_thread(file.write, block)
            await asyncio.to_thread(hasher.update, block)
        return file.tell(), b64u(hasher.digest())
