"""One daemon for all command-line tests that do not end it. Ada founded its bus; each test brings its own people."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.cli.commands import Person, Town

Newcomer = Callable[[str], Person]
_numbers = count(1)


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
def stranger(town: Town, tmp_path: Path) -> Person:
    """Somebody without an identity, beside the daemon."""
    return Person(tmp_path / "stranger", town.url)


@pytest.fixture
def newcomer(town: Town, ada: Person, tmp_path: Path) -> Newcomer:
    """Makes people whom ada has let onto the bus under a handle."""

    def make(handle: str) -> Person:
        person = Person(tmp_path / handle, town.url)
        person.does("identity", "new")
        ada.does("user", "add", handle, person.does("identity", "show", "--card").strip())
        return person

    return make


@pytest.fixture
def room(ada: Person) -> str:
    """A room of ada's, of a name that no other test has."""
    name = f"room-{next(_numbers)}"
    ada.does("room", "create", name)
    return name
