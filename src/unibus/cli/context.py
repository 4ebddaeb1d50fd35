"""What every command shares: the address, the identity, the form of the output, one way to run what is asynchronous."""

import errno
import fcntl
import os
import stat
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from unibus.cli.output import emit, note, say

if TYPE_CHECKING:
    import ssl

    from unibus.client.bus import Bus
    from unibus.crypto.identity import Identity

DEADLINE = 5.0  # seconds that a person waits for one call
CLUSTER_DEADLINE = 30.0  # … of several nodes, which may be electing a leader
_STDOUT = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shared:
    """The options of the group, for its commands."""

    url: str
    identity_path: Path
    json: bool
    ca: Path | None = None
    client_cert: Path | None = None

    @property
    def deadline(self) -> float:
        """Seconds that one call may take."""
        return deadline_for(self.url)

    def identity(self) -> "Identity":
        """The identity in its file. Raises KeyCustody."""
        from unibus.client.identity_file import load_identity

        return load_identity(self.identity_path)

    def tell(self, value: object, *lines: str) -> None:
        """What was done: `value` with --json, else `lines`."""
        if self.json:
            emit(value)
        else:
            for line in lines:
                say(line)

    @property
    def state_path(self) -> Path:
        from unibus.client.identity_file import state_path

        return state_path(self.identity_path)

    @property
    def tls(self) -> "ssl.SSLContext | None":
        """Whose certificates are taken, None for what the system takes. Raises KeyCustody."""
        if self.ca is None and self.client_cert is None:
            return None
        from unibus.client.trust import make_context

        return make_context(self.ca, self.client_cert)

    @asynccontextmanager
    async def bus(self) -> "AsyncIterator[Bus]":
        """A connection to the bus as the identity. Notes the bus's id when it is seen for the first time."""
        from unibus.client.bus import connect

        async with connect(
            self.url,
            self.identity(),
            state=self.state_path,
            deadline=self.deadline,
            on_first_contact=_first_contact,
            tls=self.tls,
        ) as bus:
            yield bus


def deadline_for(url: str) -> float:
    """Seconds that one call to the nodes in `url` may take: where there are several it may outlast the loss of one."""
    return CLUSTER_DEADLINE if "," in url else DEADLINE


def _first_contact(bus: str) -> None:
    note(f"this is bus {bus}, seen for the first time: compare it with what an admin sees in unibus identity show")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end."""
    with closing(work):  # Python remarks on what was never begun, as it is when a ctrl-c comes before
        import asyncio  # half of the time of `--help`, which runs nothing
        import logging

        # nats-py upgrades a connection to TLS in a way that asyncio remarks on when it ends, to nobody's use.
        logging.getLogger("asyncio").addFilter(lambda record: "eof_received" not in str(record.msg))
        return asyncio.run(work)


async def while_read(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """`work`, for as long as somebody reads what it prints. Raises BrokenPipeError once standard output is closed.

    Whoever waits for news writes nothing, and would not notice for hours that `head` has had enough.
    """
    import asyncio

    loop, working = asyncio.get_running_loop(), asyncio.ensure_future(work())
    closed = False

    def close() -> None:
        nonlocal closed
        closed = True
        loop.remove_reader(_STDOUT)
        working.cancel()

    # The writing end of a pipe never has anything to read: it is ready only when nobody has the other end any more.
    only_writing = fcntl.fcntl(_STDOUT, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    piped = only_writing and stat.S_ISFIFO(os.fstat(_STDOUT).st_mode)
    if piped:
        loop.add_reader(_STDOUT, close)
    try:
        return await working
    except asyncio.CancelledError:
        if closed:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
        raise
    finally:
        if piped:
            loop.remove_reader(_STDOUT)


pass_shared = click.make_pass_decorator(Shared)
