"""What is no true backup is refused by name, before anything of it is used and with the directory as it was."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import identity
from tests.e2e.conftest import options
from tests.support.archives import Change, Forgery, packed
from tests.support.people import Place
from unibus.client.backup import fetch_backup
from unibus.crypto.encoding import b64u
from unibus.daemon.node import Node
from unibus.daemon.restore import restore
from unibus.errors import BackupInvalid, StartRefused
from unibus.model.backup import BLOCK, END, MANIFEST, SIGNATURE, LogHead, member


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A true backup of a bus with a room of two, messages and a blob. Bob is no admin, eve was revoked."""
    home = tmp_path_factory.mktemp("home")

    async def make() -> None:
        async with Node(options(home / "data")) as node:
            place = Place(f"http://127.0.0.1:{node.http_port}", home / "data")
            await place.found("bob", "eve")
            async with place.enter("ada") as ada:
                room = await ada.create_room("ops")
                await room.add("bob")
                (home / "source").write_bytes(b"a plan")
                await room.put_blob(home / "source", "plan")
                for number in range(3):
                    await room.send(str(number))
                await ada.revoke("eve")
                await fetch_backup(ada, home / "backup", lambda *_: None)

    asyncio.run(make())
    return home / "backup"


@pytest.fixture(scope="module")
def true(backup: Path) -> bytes:
    """The backup's bytes."""
    return backup.read_bytes()


@pytest.fixture(params=["missing", "empty", "with a file"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory in which there is no bus."""
    target = tmp_path / "target"
    if request.param != "missing":
        target.mkdir()
    if request.param == "with a file":
        (target / "notes").write_bytes(b"kept")
    return target


def found(path: Path) -> list[tuple[str, bytes]] | None:
    """All that stands in a directory; None if there is none."""
    if not path.exists():
        return None
    return [(str(file), file.read_bytes() if file.is_file() else b"") for file in sorted(path.rglob("*"))]


async def refusal(path: Path, target: Path, *, now: Callable[[], float] = time.time) -> str:
    """Why the backup at `path` is refused, after which the directory has to be as it was."""
    before = found(target)
    with pytest.raises((BackupInvalid, StartRefused)) as caught:
        await restore(path, target, nats_server=None, clock=now, progress=lambda *_: None)
    assert found(target) == before
    return caught.value.message


async def test_the_true_one_is_taken(backup: Path, target: Path) -> None:
    before = found(target) or []
    done = await restore(backup, target, nats_server=None, clock=time.time, progress=lambda *_: None)
    assert (done.handle, done.rooms, done.messages, done.blobs) == ("ada", 1, 3, 1)
    after = dict(found(target) or [])
    assert after | dict(before) == after
    top = {str(Path(name).relative_to(target)).partition("/")[0] for name in after}
    assert top - {"notes"} == {"blobs", "lock", "nats", "unibus.sqlite3"}


async def test_a_bit_that_flipped_anywhere_is_noticed(true: bytes, tmp_path: Path) -> None:
    size = len(true)
    places = {*range(0, size, size // 40), size - 1, size - len(END) - BLOCK, 0, 156, BLOCK + 20}
    for place in sorted(places):
        altered = bytearray(true)
        altered[place] ^= 1
        (tmp_path / "altered").write_bytes(altered)
        said = await refusal(tmp_path / "altered", tmp_path / "target")
        assert said.startswith(f"{tmp_path / 'altered'} is not a backup to restore: ")


async def test_one_that_was_cut_is_noticed_wherever(true: bytes, tmp_path: Path) -> None:
    for size in (0, 1, BLOCK, BLOCK + 100, len(true) // 2, len(true) - len(END), len(true) - 1):
        (tmp_path / "cut").write_bytes(true[:size])
        said = await refusal(tmp_path / "cut", tmp_path / "target")
        assert "cut short" in said


def symbolic_link(data: bytes) -> bytes:
    """The file with its store turned into a link to somewhere else, as tar writes one."""
    place = data.index(b"store.sqlite3\0")
    header = bytearray(data[place : place + BLOCK])
    header[156:157], header[157:168] = b"2", b"/etc/passwd"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:place] + bytes(header) + data[place + BLOCK :]


def at_the_end(extra: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[: -len(END)] + extra + END


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (at_the_end(packed("extra", b"x")), "something follows its signature"),
        (lambda data: data + b"x", "something follows its signature"),
        (lambda data: data + END, "something follows its signature"),
        (lambda data: packed("extra", b"x") + data, "where manifest.jsonl should be"),
        (lambda data: packed("../../escaped", b"x") + data, "where manifest.jsonl should be"),
        (lambda data: data.replace(b"store.sqlite3\0", b"../e.sqlite3\0\0"), "where store.sqlite3 should be"),
        (symbolic_link, "where store.sqlite3 should be"),
        (lambda data: member(MANIFEST, 2**40) + data[BLOCK:], "cut short"),
        (lambda data: data.replace(b'"kind":"backup"', b'"kind":"backuq"'), "none of a backup"),
        (lambda data: data.replace(b'"version":1', b'"version":2'), "none of a backup"),
        (lambda data: data.replace(b'"node":"here"', b'"node":"hers"'), "it is not what was signed"),
        (lambda data: data[: data.index(SIGNATURE.encode() + b"\0")] + END, "where signature.jws should be"),
        (lambda _: b"this is no backup " * 1000, "where manifest.jsonl should be"),
        (lambda _: bytes(20 * BLOCK), "where manifest.jsonl should be"),
    ],
)
async def test_what_anybody_can_make_of_it_is_refused(
    true: bytes, tmp_path: Path, edit: Callable[[bytes], bytes], words: str
) -> None:
    (tmp_path / "altered").write_bytes(edit(true))
    assert words in await refusal(tmp_path / "altered", tmp_path / "target")
    assert not (tmp_path.parent / "escaped").exists()


def signed_by(name: str) -> Change:
    return lambda forgery: setattr(forgery, "signer", identity(name).signing)


def store(*statements: str, heads: bool = True) -> Change:
    return lambda forgery: forgery.alter_store(*statements, heads=heads)


def blob(**changes: object) -> Change:
    def change(forgery: Forgery) -> None:
        (true,) = forgery.blobs
        forged = true.model_copy(update=changes)
        forgery.alter(forged.name, forgery.data[true.name])
        forgery.blobs = [forged]

    return change


def messages(**changes: object) -> Change:
    return lambda forgery: setattr(forgery, "messages", forgery.messages.model_copy(update=changes))


def header(**changes: object) -> Change:
    return lambda forgery: setattr(forgery, "header", forgery.header.model_copy(update=changes))


def heads(change: Callable[[list[LogHead]], list[LogHead]]) -> Change:
    return lambda forgery: setattr(forgery, "heads", change(forgery.heads))


def a_blob_of_other_bytes(forgery: Forgery) -> None:
    """A second blob is named, with the bytes of the first."""
    (true,) = forgery.blobs
    forgery.blobs = [true, true.model_copy(update={"id": b64u(bytes(32))})]
    forgery.alter(forgery.blobs[1].name, forgery.data[true.name])


OTHER = b64u(bytes(32))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (signed_by("bob"), "not signed by an admin"),
        (signed_by("eve"), "not signed by an admin"),
        (signed_by("stranger"), "not signed by an admin"),
        (lambda forgery: setattr(forgery, "bus", OTHER), "signed for another bus"),
        (header(bus=OTHER), "another bus"),
        (heads(lambda true: true[:-1]), "does not name the head"),
        (heads(lambda true: [*true, LogHead(log="zoo", sequence=1, hash=OTHER)]), "'zoo', which is not there"),
        (heads(lambda true: [head.model_copy(update={"hash": OTHER}) for head in true]), "does not name the head"),
        (heads(lambda true: true[::-1]), "does not name the head"),
        (
            store("DELETE FROM entries WHERE log = :directory AND position = 4", heads=False),
            "does not name the head that the log 'directory' has",
        ),
        (store("DELETE FROM entries WHERE log = :directory AND position = 2"), "the log 'directory' does not hold"),
        (
            store(
                "UPDATE entries SET position = 99 WHERE log = :directory AND position = 2",
                "UPDATE entries SET position = 2 WHERE log = :directory AND position = 3",
                "UPDATE entries SET position = 3 WHERE log = :directory AND position = 99",
            ),
            "the log 'directory' does not hold",
        ),
        (
            store("UPDATE entries SET value = CAST(value || 'A' AS BLOB) WHERE log = :room AND position = 2"),
            "does not hold",
        ),
        (store("UPDATE attachments SET value = randomblob(length(value)) WHERE position = 1"), "does not hold"),
        (store("DELETE FROM attachments WHERE position = 2"), "sealed keys"),
        (
            store(
                "INSERT INTO attachments SELECT log, CAST('UNOBODY' AS BLOB), position, value FROM attachments "
                "WHERE position = 1"
            ),
            "sealed keys",
        ),
        (
            store("INSERT INTO attachments VALUES (:directory, CAST('x' AS BLOB), 1, CAST('x' AS BLOB))"),
            "its directory carries keys",
        ),
        (
            store("INSERT INTO marks VALUES (CAST('member/UEVE' || substr(:name, 5) AS BLOB), CAST('owner' AS BLOB))"),
            "who is in which room",
        ),
        (store("UPDATE marks SET value = CAST('reader' AS BLOB)"), "who is in which room"),
        (store("DELETE FROM marks"), "who is in which room"),
        (
            store(
                "INSERT INTO logs (name) VALUES (CAST('zoo' AS BLOB))",
                "INSERT INTO entries SELECT id, 1, CAST('{}' AS BLOB) FROM logs ORDER BY id DESC LIMIT 1",
            ),
            "a log 'zoo', which no bus has",
        ),
        (store("UPDATE entries SET value = CAST('{}' AS BLOB) WHERE log = :audit AND position = 1"), "does not hold"),
        (
            store(
                "UPDATE entries SET position = position + 1 WHERE log = :audit AND position = "
                "(SELECT max(position) FROM entries WHERE log = :audit)"
            ),
            "is not whole",
        ),
        (store("INSERT INTO claims VALUES (CAST('nonce/x' AS BLOB), 1)", heads=False), "not of this version's form"),
        (store("CREATE TABLE more (x)", heads=False), "not of this version's form"),
        (
            store("CREATE TRIGGER more AFTER INSERT ON marks BEGIN DELETE FROM claims; END", heads=False),
            "not of this version's form",
        ),
        (store("PRAGMA user_version = 99", heads=False), "not of this version's form"),
        (store("PRAGMA application_id = 1", heads=False), "not of this version's form"),
        (lambda forgery: forgery.alter("store.sqlite3", b"no database " * 1000), "its store is damaged"),
        (lambda forgery: forgery.alter("store.sqlite3", b""), "not of this version's form"),
        (lambda forgery: forgery.alter("stream.snapshot", b"no snapshot"), "cannot read its messages"),
        (lambda forgery: forgery.alter("stream.snapshot", b""), "cannot read its messages"),
        (messages(messages=2), "other messages than its manifest says"),
        (messages(last=99), "other messages than its manifest says"),
        (blob(owner=identity("bob").user), "belongs to nobody"),
        (blob(room="a" * 26), "belongs to nobody"),
        (blob(id=OTHER), "was altered"),
        (blob(note=b64u(bytes(300))), "does not hold"),
        (blob(room="../../../../../../tmp/escape"), "none of a backup"),
        (blob(id="../" + "A" * 40), "none of a backup"),
        (a_blob_of_other_bytes, "was altered"),
        (lambda forgery: forgery.blobs.clear(), ""),
    ],
)
async def test_what_an_admin_could_forge_is_refused(backup: Path, tmp_path: Path, change: Change, words: str) -> None:
    forgery = Forgery(backup, tmp_path)
    change(forgery)
    path = forgery.write(tmp_path / "forged")
    if not words:  # fewer blobs are no lie: an admin may delete them
        assert (await restore(path, tmp_path / "target", nats_server=None, clock=time.time, progress=print)).blobs == 0
        return
    assert words in await refusal(path, tmp_path / "target")


async def test_a_clock_that_is_behind_is_named(backup: Path, target: Path) -> None:
    assert "clock is behind" in await refusal(backup, target, now=lambda: time.time() - 3600)
