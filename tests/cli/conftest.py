"""One daemon for all command-line tests that do not end it. Ada founded its bus; each test brings its own people."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.commands import Person, Town
from unibus import connect
from unibus.client.identity_file import load_identity, new_identity, state_path

Newcomer = Callable[[str], Person]
ROOMS = 40


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A daemon with a bus."""
    town = Town(tmp_path_factory.mktemp("town"))
    try:
        yield town
    finally:
        assert town.end() == 0


@pytest.fixture(scope="session")
def ada(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """The bus's first admin."""
    ada = Person(tmp_path_factory.mktemp("ada"), town.url)
    ada.does("init", "ada", "--token-file", str(town.data_dir / "bootstrap-token"))
    return ada


@pytest.fixture
def stranger(town: Town, ada: Person, tmp_path: Path) -> Person:  # noqa: ARG001 - ada has founded the bus by then
    """Somebody without an identity, beside the daemon."""
    return Person(tmp_path / "stranger", town.url)


@pytest.fixture
def newcomer(town: Town, ada: Person, tmp_path: Path) -> Newcomer:
    """Makes people whom ada has let onto the bus under a handle."""

    def make(handle: str) -> Person:
        person = Person(tmp_path / handle, town.url)
        card = new_identity(person.identity).card()

        async def admit() -> None:
            async with connect(town.url, load_identity(ada.identity), state=state_path(ada.identity)) as bus:
                await bus.admit(handle, card)

        asyncio.run(admit())
        return person

    return make


@pytest.fixture(scope="session")
def rooms(town: Town, ada: Person) -> list[str]:
    """Names of rooms that ada made, in one go because a command takes its time to start."""
    names = [f"room-{number}" for number in range(ROOMS)]

    async def make() -> None:
        async with connect(town.url, load_identity(ada.identity), state=state_path(ada.identity)) as bus:
            for name in names:
                await bus.create_room(name)

    asyncio.run(make())
    return names


@pytest.fixture
def room(rooms: list[str]) -> str:
    """A room of ada's that no other test has."""
    return rooms.pop()
