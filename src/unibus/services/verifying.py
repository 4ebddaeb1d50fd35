"""Whether what a backup holds is true: the daemon's own rules applied to all of it, before any of it is used.

What clients verify (signatures, chains, rules, commitments) is verified here by the same reducers; what only this
node goes by (marks) has to be what the records give. Messages are not judged here: with `--bus-auth off` anybody may
have sent some, and readers judge each. Must never take a thing because the backup says it of itself.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from unibus.crypto.encoding import b64u, load_json, unb64u
from unibus.crypto.frames import read_envelope, verify_frame
from unibus.crypto.heads import digest
from unibus.errors import BackupInvalid, UnibusError
from unibus.model.backup import LogHead, StoredBlob
from unibus.model.blobs import manifest_purpose
from unibus.model.directory import Directory
from unibus.model.records import DIRECTORY, ROOM_PREFIX, read_record
from unibus.model.room import Room
from unibus.services.audit import read_entry
from unibus.services.membership import check_sealed_keys, marks_of
from unibus.services.moves import LOG as MOVES
from unibus.services.restores import LOG as RESTORES
from unibus.store.snapshot import Snapshot

AUDIT_PREFIX = "audit/"
Progress = Callable[[], object]


@dataclass(slots=True)
class Verified:
    """What a backup's records give: the directory, the marks, and for each room its number of epochs.

    `latest` is the time of the newest entry of an audit trail, Unix seconds by the clock that judged signed requests.
    """

    directory: Directory = field(default_factory=Directory)
    epochs: dict[str, int] = field(default_factory=dict)
    marks: dict[str, bytes] = field(default_factory=dict)
    records: int = 0
    latest: float = 0.0


def verify_records(snapshot: Snapshot, bus: str, heads: Iterable[LogHead], progress: Progress) -> Verified:
    """Verify all logs of `snapshot`; `heads` are those that the manifest names. `progress` is called for each entry.

    Raises BackupInvalid, naming the log.
    """
    verified = Verified()
    _verify_directory(snapshot, verified, progress)
    if verified.directory.bus != bus:
        raise BackupInvalid("its records are those of another bus than its manifest names")
    named = iter(heads)
    for log, sequence, last in snapshot.heads():
        if next(named, None) != LogHead(log=log, sequence=sequence, hash=b64u(digest(last))):
            raise BackupInvalid(f"its manifest does not name the head that the log {log!r} has")
        if log.startswith(ROOM_PREFIX):
            _verify_room(snapshot, log, verified, progress)
        elif log != DIRECTORY:
            _verify_notes(snapshot, log, verified, progress)
    if (missing := next(named, None)) is not None:
        raise BackupInvalid(f"its manifest names a log {missing.log!r}, which is not there")
    if dict(snapshot.marks()) != verified.marks:
        raise BackupInvalid("who is in which room is not what its records say")
    return verified


def verify_blob(part: StoredBlob, verified: Verified) -> None:
    """Check that who stored a blob signed its manifest, for a room of this backup. Raises BackupInvalid."""
    with _naming(f"the blob {part.id}"):
        manifest = unb64u(part.note)
        envelope = read_envelope(manifest)
        if not 1 <= envelope.epoch <= verified.epochs.get(part.room, 0) or envelope.sender != part.owner:
            raise BackupInvalid(f"the blob {part.id} belongs to nobody")
        epoch = Room(str(verified.directory.bus), part.room).epoch_ref(envelope.epoch)
        verify_frame(manifest, envelope, epoch, manifest_purpose(part.id))


def _verify_directory(snapshot: Snapshot, verified: Verified, progress: Progress) -> None:
    directory = verified.directory
    with _naming(f"the log {DIRECTORY!r}"):
        for _, raw, attached in snapshot.entries(DIRECTORY):
            record = read_record(raw)
            directory.check(record)
            if attached:
                raise BackupInvalid("its directory carries keys, which no directory does")
            directory.apply(record)
            progress()
    verified.records += directory.head.sequence


def _verify_room(snapshot: Snapshot, log: str, verified: Verified, progress: Progress) -> None:
    directory = verified.directory
    room = Room(str(directory.bus), log.removeprefix(ROOM_PREFIX))
    with _naming(f"the log {log!r}"):
        for _, raw, attached in snapshot.entries(log):
            record = read_record(raw)
            room.check(record, directory)
            check_sealed_keys(room, record, attached, directory)
            for name, value in marks_of(record, room).items():
                verified.marks.pop(name, None)
                verified.marks |= {name: value} if value is not None else {}
            room.apply(record, directory)
            progress()
    verified.records += room.head.sequence
    verified.epochs[room.id] = len(room.epochs)


def _verify_notes(snapshot: Snapshot, log: str, verified: Verified, progress: Progress) -> None:
    if log not in {MOVES, RESTORES} and not log.startswith(AUDIT_PREFIX):
        raise BackupInvalid(f"it has a log {log!r}, which no bus has")
    for number, (position, raw, attached) in enumerate(snapshot.entries(log), 1):
        with _naming(f"the log {log!r}"):
            load_json(raw)
            found = read_entry(position, raw) if log.startswith(AUDIT_PREFIX) else None
        if position != number or attached or (found is not None and found.number != number):
            raise BackupInvalid(f"the log {log!r} is not whole")
        if found is not None:
            verified.latest = max(verified.latest, found.at)
        progress()


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Whatever is found amiss in here is a fault of the backup's, in `what`."""
    try:
        yield
    except BackupInvalid:
        raise
    except (UnibusError, ValueError) as error:
        reason = error.message if isinstance(error, UnibusError) else "an entry is of no known form"
        raise BackupInvalid(f"{what} does not hold: {reason}") from error
