"""What a server may show in place of the truth about one log, each with the error that must come of it.

A lie changes the server's copy of the world. All that it forges is properly signed by somebody, and in its place.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.builders import ANY_DIGEST, AT, identity, user
from tests.client.hostile import Server, always
from tests.client.world import World, otherwise
from unibus.crypto.encoding import b64u
from unibus.crypto.heads import Head
from unibus.errors import LogForked, LogInvalid, LogRolledBack, UnibusError
from unibus.model.bodies import RoomAdd, Strict, UserAdmit, UserRevoke
from unibus.model.records import DIRECTORY, room_log, write_record
from unibus.model.wire import HeadView, RecordsPage


@dataclass(frozen=True)
class Lie:
    """`tell` makes the server lie about the directory, or about the room; `words` are in what the client says of it."""

    name: str
    tell: Callable[[Server, str], None]
    error: type[UnibusError]
    words: str

    def __str__(self) -> str:
        return self.name


def rolled_back(log: str, records: int) -> Callable[[Server, str], None]:
    def tell(server: Server, plans: str) -> None:
        del server.world.logs[log.format(plans)][records:]

    return tell


def forked(*, longer: bool) -> Callable[[Server, str], None]:
    def tell(server: Server, plans: str) -> None:
        server.world = otherwise()
        if longer:
            server.world.admit("dan")
            server.world.rotate(plans)

    return tell


def head(log: str, more: int) -> Callable[[Server, str], None]:
    """Nothing new, and a head that is `more` records on."""

    def tell(server: Server, plans: str) -> None:
        named = log.format(plans)
        path = f"/v1/rooms/{plans}/records" if named != DIRECTORY else "/v1/directory/records"
        view = HeadView(sequence=len(server.world.logs[named]) + more, hash=b64u(b"\1" * 32))
        server.answers[path] = always(200, RecordsPage(records=[], head=view).model_dump_json().encode())

    return tell


def directory_record(by: str, body: Strict, *, bus: str | None = None) -> Callable[[Server, str], None]:
    def tell(server: Server, _plans: str) -> None:
        world = server.world
        last = world.directory.head
        raw = write_record(identity(by).signing, bus or world.bus, DIRECTORY, last, body, at=AT)
        world.logs[DIRECTORY].append(raw)

    return tell


def ghost(by: str, *, knows: int | None = None, other_directory: bool = False) -> Callable[[Server, str], None]:
    """`dan` becomes a member without an epoch, as if an owner had sealed the current key to them."""

    def tell(server: Server, plans: str) -> None:
        world = server.world
        world.admit("dan")
        known = world.directory.head if knows is None else world.directory.head_at(knows)
        if other_directory:
            known = Head(world.directory.head.sequence, bytes(32))
        body = RoomAdd(user=user("dan"), role="member", sealed=ANY_DIGEST)
        last = world.rooms[plans].head
        raw = write_record(identity(by).signing, world.bus, room_log(plans), last, body, at=AT, directory=known)
        world.logs[room_log(plans)].append(raw)

    return tell


def spoiled(log: str, change: Callable[[bytes], bytes]) -> Callable[[Server, str], None]:
    """One more record, good but for `change`."""

    def tell(server: Server, plans: str) -> None:
        world: World = server.world
        world.admit("dan")
        world.rotate(plans)
        records = world.logs[log.format(plans)]
        records[-1] = change(records[-1])

    return tell


def other_signature(raw: bytes) -> bytes:
    return raw[:-10] + (b"A" if raw[-10:-9] != b"A" else b"B") + raw[-9:]


def garbage(_raw: bytes) -> bytes:
    return b"garbage"


def admission(name: str, handle: str) -> UserAdmit:
    return UserAdmit(handle=handle, role="admin", card=identity(name).card())


ROOM = "room/{}"
REWRITTEN = {
    log: [
        Lie("rolled back by one", rolled_back(log, -1), LogRolledBack, "before"),
        Lie("emptied", rolled_back(log, 0), LogRolledBack, "before"),
        Lie("forked", forked(longer=False), LogForked, "another"),
        Lie("forked and longer", forked(longer=True), LogForked, "log"),
    ]
    for log in (DIRECTORY, ROOM)
}
MADE_UP = {
    log: [
        Lie("another hash for the head", head(log, 0), LogForked, "another head"),
        Lie("more records named than shown", head(log, 3), LogInvalid, "names"),
        Lie("a signature with a bit changed", spoiled(log, other_signature), LogInvalid, "does not hold"),
        Lie("no record at all", spoiled(log, garbage), LogInvalid, "does not hold"),
        Lie("text that is in no record", spoiled(log, lambda raw: raw + b"\n"), LogInvalid, "does not hold"),
    ]
    for log in (DIRECTORY, ROOM)
}
AGAINST_DIRECTORY = [
    Lie("admitted by who is no admin", directory_record("bob", admission("dan", "dan")), LogInvalid, "only an admin"),
    Lie("admitted by themselves", directory_record("dan", admission("dan", "dan")), LogInvalid, "not an active user"),
    Lie("admitted by a revoked user", directory_record("cyd", admission("dan", "dan")), LogInvalid, "not an active"),
    Lie("a revoked user revived", directory_record("ada", admission("cyd", "cyd")), LogInvalid, "stays so"),
    Lie("a handle taken over", directory_record("ada", admission("dan", "bob")), LogInvalid, "is taken"),
    Lie("the last admin revoked", directory_record("ada", UserRevoke(user=user("ada"))), LogInvalid, "last admin"),
    Lie(
        "a record of another bus",
        directory_record("ada", admission("dan", "dan"), bus=b64u(b"\1" * 32)),
        LogInvalid,
        "another bus",
    ),
]
AGAINST_ROOM = [
    Lie("added by who is no owner", ghost("bob"), LogInvalid, "only an owner"),
    Lie("added by themselves", ghost("dan"), LogInvalid, "only an owner"),
    Lie("added by a revoked owner", ghost("cyd"), LogInvalid, "not on the bus"),
    Lie("added by an owner before their revocation", ghost("cyd", knows=4), LogInvalid, "never go back"),
    Lie("added under another directory", ghost("ada", other_directory=True), LogForked, "another directory"),
]
