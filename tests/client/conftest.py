"""A world with some history, served by a control plane that can lie about it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.client.hostile import Server, serving
from tests.client.world import World, with_history


@pytest.fixture
def world() -> World:
    """What honest clients made; see `with_history`."""
    return with_history()


@pytest.fixture
def plans(world: World) -> str:
    """The id of the room "plans"."""
    return next(iter(world.rooms))


@pytest.fixture
async def server(world: World) -> AsyncIterator[Server]:
    """Shows the world; as it is, until a test makes it lie."""
    async with serving(world.split()) as server:
        yield server


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where a client remembers."""
    return tmp_path / "state.json"
