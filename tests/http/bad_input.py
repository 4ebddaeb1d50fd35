"""A bus that hostile requests are sent to, and the genuine requests that they are made of."""

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from hashlib import sha256
from itertools import count
from typing import Any

from tests.builders import Change, RoomStory, Story, identity
from tests.http.attacks import Edit, request, same
from tests.http.serving import Answer, Server, raw
from tests.support.people import Place

from unibus.crypto.encoding import b64u, dump_json
from unibus.daemon.node import Node
from unibus.http.limits import Limits
from unibus.model.bodies import RoomRole

QUICK = Limits(body_seconds=0.3)
DIRECTORY_PATH = "/v1/directory/records"
_nonces = count(time.time_ns())


class Stage:
    """A node with ada (admin), bob, rex and cyd; the first three are in a room, as owner, member and reader.

    `story` and `room` are what a client knows, so that it signs what would come next.
    """

    def __init__(self, node: Node, place: Place) -> None:
        self.node = node
        self.place = place
        self.server = Server(node.http_port, [])
        self.story = Story(at=int(time.time()))
        self.room = RoomStory(self.story)

    async def set(self) -> None:
        """Make the bus and the room, over HTTP like anybody."""
        record = dump_json({"record": self.story.records[0].decode()})
        headers = [
            ("Host", self.server.host),
            ("Authorization", f"Bearer {self.place.token}"),
            ("Content-Length", str(len(record))),
        ]
        await self._done(raw("POST", "/v1/bus", headers, record))
        for name in ("bob", "rex", "cyd"):
            admission = self.story.admission(name)
            await self._done(self.change_directory(admission))
            self.story.take(admission)
        # Begun anew, so that its first record knows everybody.
        self.room = RoomStory(self.story)
        await self._done(self.change_room(self.room.created))
        additions: list[tuple[str, RoomRole]] = [("bob", "member"), ("rex", "reader")]
        for name, role in additions:
            change = self.room.addition(name, role=role)
            await self._done(self.change_room(change))
            self.room.take(change)

    async def _done(self, data: bytes) -> None:
        answer = await self.server.send(data)
        assert answer is not None
        assert answer.status == 201, answer

    def signed(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        by: str = "ada",
        sign: Mapping[str, Any] | None = None,
        send: Mapping[str, Any] | None = None,
        edit: Edit = same,
    ) -> bytes:
        """A request signed by `by`; `sign`, `send` and `edit` as in `attacks`."""
        genuine = {
            "method": method,
            "target": target,
            "body": body,
            "key": identity(by).signing,
            "bus": self.story.bus,
            "created": int(time.time()),
            "nonce": b64u(next(_nonces).to_bytes(16)),
        }
        return request(self.server.host, genuine | dict(sign or {}), dict(send or {}), edit)

    def read(self, target: str = DIRECTORY_PATH, **options: Any) -> bytes:
        """A signed GET."""
        return self.signed("GET", target, **options)

    def change_directory(self, record: bytes, *, by: str = "ada") -> bytes:
        """A record for the directory, brought by `by`."""
        return self.signed("POST", DIRECTORY_PATH, dump_json({"record": record.decode()}), by=by)

    def change_room(self, change: Change, *, by: str = "ada", sealed: Mapping[str, str] | None = None) -> bytes:
        """A record for the room, brought by `by`, with its sealed keys, or with others."""
        keys = {name: b64u(key) for name, key in change.sealed.items()} if sealed is None else dict(sealed)
        body = dump_json({"record": change.raw.decode(), "sealed": keys})
        return self.signed("POST", self.at_room("records"), body, by=by)

    def at_room(self, what: str) -> str:
        """An address below the room's."""
        return f"/v1/rooms/{self.room.id}/{what}"

    async def send(self, data: bytes, *, then_close: bool = False) -> Answer | None:
        """The answer to `data`."""
        return await self.server.send(data, then_close=then_close)

    def kept(self) -> tuple[object, ...]:
        """All that the node keeps of logs, keys, members and blobs, read from its files; not the trail of refusals."""
        with closing(sqlite3.connect(f"file:{self.place.data_dir / 'unibus.sqlite3'}?mode=ro", uri=True)) as file:
            tables = [file.execute(query).fetchall() for query in _QUERIES]
        blobs = self.place.data_dir / "blobs"
        found = {str(path): sha256(path.read_bytes()).digest() for path in blobs.rglob("*") if path.is_file()}
        directory = self.node.books.directory
        return (*tables, found, directory.head, {name: directory.active(name) for name in directory.users})


_KNOWN = "SELECT id FROM logs WHERE CAST(name AS TEXT) NOT LIKE 'audit/%'"
_QUERIES = (
    f"SELECT * FROM logs WHERE id IN ({_KNOWN}) ORDER BY id",  # noqa: S608 - our own names
    f"SELECT * FROM entries WHERE log IN ({_KNOWN}) ORDER BY log, position",  # noqa: S608 - our own names
    f"SELECT * FROM attachments WHERE log IN ({_KNOWN}) ORDER BY log, name, position",  # noqa: S608 - our own names
    "SELECT * FROM marks ORDER BY name",
)
