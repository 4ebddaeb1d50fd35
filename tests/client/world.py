"""A bus as honest clients make it: logs and sealed keys that really open, for tests that then show them dishonestly.

Signed by the client's own `Signer` with counted instead of random bytes, so every run is the same.
"""

from collections import defaultdict
from copy import deepcopy
from hashlib import shake_256

from tests.builders import AT, identity, user
from unibus.client.changes import Change, Signer
from unibus.model.bodies import History, Role, RoomLeave, RoomRole
from unibus.model.directory import Directory
from unibus.model.records import DIRECTORY, ROOM_PREFIX, Record, read_record
from unibus.model.room import Room, check_sealed


class World:
    """One bus. `logs` holds every log's records, `sealed` what was sealed to whom: (log, user) to (sequence, bytes)."""

    def __init__(self, admin: str = "ada", seed: str = "a world") -> None:
        self._seed = seed
        self._drawn = 0
        self.directory = Directory()
        self.rooms: dict[str, Room] = {}
        self.keys: dict[tuple[str, int], bytes] = {}
        self.logs: defaultdict[str, list[bytes]] = defaultdict(list)
        self.sealed: defaultdict[tuple[str, str], list[tuple[int, bytes]]] = defaultdict(list)
        self.take(self.signer(admin).found(admin))
        self.genesis = self.logs[DIRECTORY][0]

    @property
    def bus(self) -> str:
        assert self.directory.bus is not None
        return self.directory.bus

    def random(self, size: int) -> bytes:
        self._drawn += 1
        return shake_256(f"{self._seed} {self._drawn}".encode()).digest(size)

    def signer(self, name: str) -> Signer:
        return Signer(identity(name), AT, self.random)

    def split(self, seed: str = "another world") -> "World":
        """The same world up to here, which can go on in another way."""
        other = deepcopy(self)
        other._seed = seed  # noqa: SLF001 - its own
        return other

    def take(self, change: Change) -> Record:
        """Append a change to its log, as the daemon would."""
        record = read_record(change.record)
        if change.log == DIRECTORY:
            self.directory.check(record)
            self.directory.apply(record)
        else:
            name = change.log.removeprefix(ROOM_PREFIX)
            room = self.rooms.get(name) or Room(self.bus, name)
            room.check(record, self.directory)
            check_sealed(room, record, change.sealed, self.directory)
            room.apply(record, self.directory)
            self.rooms[name] = room
            if change.epoch is not None:
                self.keys[name, change.epoch[0]] = change.epoch[1]
        self.logs[change.log].append(change.record)
        for recipient, sealed in change.sealed.items():
            self.sealed[change.log, recipient].append((record.sequence, sealed))
        return record

    def admit(self, *names: str, role: Role = "member") -> None:
        for name in names:
            self.take(self.signer("ada").admit(self.directory, name, identity(name).card(), role))

    def revoke(self, name: str) -> None:
        self.take(self.signer("ada").revoke(self.directory, user(name)))

    def create(self, name: str = "plans", history: History = "shared", *, by: str = "ada") -> str:
        """A new room's id."""
        room, change = self.signer(by).create_room(self.directory, name, history)
        self.take(change)
        return room

    def key(self, room: str) -> bytes:
        """The room's current key."""
        return self.keys[room, self.rooms[room].epoch.number]

    def add(self, room: str, name: str, role: RoomRole = "member", *, by: str = "ada") -> Change:
        """`name` is added to the room; the change that did it."""
        change = self.signer(by).add(self.rooms[room], self.directory, self.key(room), user(name), role)
        self.take(change)
        return change

    def remove(self, room: str, name: str, *, by: str = "ada") -> Change:
        """`name` is removed from the room; the change that did it."""
        change = self.signer(by).remove(self.rooms[room], self.directory, self.key(room), user(name))
        self.take(change)
        return change

    def leave(self, room: str, name: str) -> None:
        """`name` leaves the room by themselves, and nobody has changed its key yet."""
        self.take(self.signer(name).plain(self.rooms[room], self.directory, RoomLeave(successor=None)))

    def rotate(self, room: str, *, by: str = "ada") -> Change:
        """The room begins a new epoch; the change that did it."""
        change = self.signer(by).rotate(self.rooms[room], self.directory, self.key(room))
        self.take(change)
        return change


def begun() -> World:
    """Ada's bus with bob, mallory and cyd, and the room "plans" that ada and cyd own; bob is in it."""
    world = World()
    world.admit("bob", "mallory", "cyd")
    room = world.create("plans")
    world.add(room, "cyd", "owner")
    world.add(room, "bob")
    return world


def with_history() -> World:
    """`begun`, and then: cyd is revoked, the room changes its key, mallory joins."""
    world = begun()
    (room,) = world.rooms
    world.revoke("cyd")
    world.rotate(room)
    world.add(room, "mallory")
    return world


def otherwise() -> World:
    """`begun`, and then as many records as `with_history`, but others."""
    world = begun().split()
    (room,) = world.rooms
    world.revoke("mallory")
    world.rotate(room)
    world.rotate(room)
    return world
