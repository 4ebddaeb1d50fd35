"""What the tests of blobs from end to end play on: a room with owner, member and reader, and somebody outside of it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from tests.e2e.conftest import StartNode
from tests.support.people import Place
from unibus import Bus, Room


@dataclass
class Scene:
    """Ada's room with bob in it, eve on the bus and not in the room, rex a reader."""

    place: Place
    buses: Mapping[str, Bus]
    rooms: Mapping[str, Room]

    @property
    def room(self) -> str:
        return self.rooms["ada"].id

    def held(self, blob: str) -> Path:
        """Where the node keeps a blob."""
        return self.place.data_dir / "blobs" / "held" / self.room / blob

    def kept(self) -> list[str]:
        """All that the node keeps of blobs."""
        root = self.place.data_dir / "blobs"
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    async def ask(
        self, who: str, method: str, what: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """A well-signed request about `what` below the room's blobs; the answer, or the error that it stands for."""
        target = URL(f"/v1/rooms/{self.room}/blobs{what}", encoded=True)
        async with self.buses[who].api.exchange(method, target, body, headers) as answer:
            return answer.status, answer.headers, await answer.read()


@asynccontextmanager
async def blob_scene(start_node: StartNode, data_dir: Path) -> AsyncIterator[Scene]:
    """The scene on a node of its own."""
    node = await start_node()
    place = Place(f"http://127.0.0.1:{node.http_port}", data_dir)
    await place.found("bob", "eve", "rex")
    async with (
        place.enter("ada") as ada,
        place.enter("bob") as bob,
        place.enter("eve") as eve,
        place.enter("rex") as rex,
    ):
        room = await ada.create_room("ops")
        await room.add("bob")
        await room.add("rex", "reader")
        rooms = {"ada": room, "bob": await bob.room("ops"), "rex": await rex.room("ops")}
        yield Scene(place, {"ada": ada, "bob": bob, "eve": eve, "rex": rex}, rooms)


def names(path: Path) -> list[str]:
    """What stands in a directory."""
    return sorted(entry.name for entry in path.iterdir())
