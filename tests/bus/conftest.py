"""The bus on a free port in a directory of its own, ended with the test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.bus.stage import Logbook, Stage, TablePolicy
from unibus.bus.options import BusAuth, BusOptions
from unibus.bus.plane import BusPlane

StartStage = Callable[[BusAuth], Awaitable[Stage]]


@pytest.fixture
async def start_stage(tmp_path: Path) -> AsyncIterator[StartStage]:
    """Starts a bus in the wanted mode."""
    async with AsyncExitStack() as ending:

        async def start(mode: BusAuth) -> Stage:
            log, policy = Logbook(), TablePolicy()
            plane = BusPlane(BusOptions(tmp_path, port=0, mode=mode), policy, log.logger)
            await plane.start()
            ending.push_async_callback(plane.stop)
            return Stage(plane, policy, log)

        yield start


@pytest.fixture
async def stage(start_stage: StartStage) -> Stage:
    """A bus that enforces."""
    return await start_stage(BusAuth.ENFORCE)
