"""What every command shares: the address, the identity, the form of the output, one way to run what is asynchronous."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from unibus.cli.output import note

if TYPE_CHECKING:
    from unibus.client.bus import Bus
    from unibus.crypto.identity import Identity

DEADLINE = 5.0  # seconds that a person waits for one call
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shared:
    """The options of the group, for its commands."""

    url: str
    identity_path: Path
    json: bool

    def identity(self) -> "Identity":
        """The identity in its file. Raises KeyCustody."""
        from unibus.client.identity_file import load_identity

        return load_identity(self.identity_path)

    @property
    def state_path(self) -> Path:
        from unibus.client.identity_file import state_path

        return state_path(self.identity_path)

    @asynccontextmanager
    async def bus(self) -> "AsyncIterator[Bus]":
        """A connection to the bus as the identity. Notes the bus's id when it is seen for the first time."""
        from unibus.client.bus import connect

        async with connect(
            self.url, self.identity(), state=self.state_path, deadline=DEADLINE, on_first_contact=_first_contact
        ) as bus:
            yield bus


def _first_contact(bus: str) -> None:
    note(f"this is bus {bus}, seen for the first time: compare it with what an admin sees in unibus identity show")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end."""
    return asyncio.run(work)


pass_shared = click.make_pass_decorator(Shared)
