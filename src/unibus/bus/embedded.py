"""The daemon's own nats-server: configured, started as its child, made to read its files again, killed."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from unibus.bus import binary, config, disk, mending
from unibus.bus.child import Child
from unibus.bus.keys import BusKeys
from unibus.bus.links import Links
from unibus.bus.options import BusOptions
from unibus.bus.room_on_disk import measured_limit, out_of_reach
from unibus.bus.server import Reached
from unibus.bus.shut_out import ShutOut
from unibus.bus.tls import comes_to_show
from unibus.errors import BusUnavailable, StartRefused, reason_of

_HALTED = f"the stream of messages stands still: {disk.HALTED}"
_OTHERS_HEAR = 0.5
"""Seconds in which the other replicas stop at the same message, so that all are mended at once."""
_MOST_IN_VAIN = 3
"""Lives that are begun anew one after the other although nothing was found to mend."""


class Embedded:
    """Implements `server.Server` with a process of our own."""

    kind = "embedded"
    lease: int | None = None  # a child that does not obey is killed, so nobody outlives a revocation

    def __init__(self, options: BusOptions, keys: BusKeys, log: FilteringBoundLogger) -> None:
        self._options = options
        self._keys = keys
        self._log = log
        self._binary = Path()
        self._child: Child | None = None
        self._digest: asyncio.Task[str] | None = None
        self._halted, self._in_vain = False, 0
        self.shut_out = ShutOut()
        self.port, self.ws_port = options.port, options.ws_port

    async def prepare(self) -> None:
        """Find nats-server, and make its directories. Raises StartRefused."""
        self._binary = binary.find(self._options.binary)
        for directory in (self._options.run_dir, self._options.store_dir):
            try:
                directory.mkdir(mode=0o700, exist_ok=True)
                directory.chmod(0o700)
            except OSError as error:
                raise StartRefused(f"{directory} cannot be made: {reason_of(error)}") from error

    async def start(self, over: Callable[[str], None]) -> None:
        """Start the process. Raises BusUnavailable, StartRefused for a program that is no longer the right one."""
        await binary.check(self._binary)
        options = self._options
        if self._halted:
            await self._mend()
        path = options.run_dir / "nats-server.conf"
        try:
            for stale in options.run_dir.glob("*.ports"):
                stale.unlink()  # left by a server that was killed; its process number may come again
            most = options.max_store
            if most is None:
                most = await asyncio.to_thread(measured_limit, options.store_dir)
            told = out_of_reach(most) if options.records else most
            _write_private(path, config.render(options, self._keys, self.port, self.ws_port, told))
        except OSError as error:
            raise BusUnavailable(f"{path} cannot be written: {reason_of(error)}") from error
        # Beside the start, which it need not delay.
        self._digest = asyncio.create_task(binary.digest(self._binary, path, options.descriptors), name="configuration")
        self._child = await Child.start(self._binary, path, self._log, options.descriptors)
        self._child.ended.add_done_callback(lambda ended: None if ended.cancelled() else over(ended.result()))
        later = asyncio.get_running_loop().call_later
        if self._in_vain < _MOST_IN_VAIN:  # after that the records are served at least
            self._child.halted.add_done_callback(lambda _: later(_OTHERS_HEAR, over, _HALTED))

    def name_taken(self) -> bool:
        """Whether it has met another of its name."""
        return self._child is not None and self._child.name_taken

    async def digest(self) -> str | None:
        """What nats-server itself calls the configuration that was written for it."""
        return await self._digest if self._digest is not None else None

    async def reach(self) -> Reached:
        """Its address, once it listens. Raises BusUnavailable."""
        options = self._options
        if self._child is None:
            raise BusUnavailable("nats-server was not started")
        self.port = await self._child.port(options.run_dir)
        if options.ws_host is not None:
            self.ws_port = await self._child.port(options.run_dir, "websocket")
        host = f"[{options.dial_host}]" if ":" in options.dial_host else options.dial_host
        tls = options.tls.context() if options.tls else None
        return Reached(f"nats://{host}:{self.port}", tls, options.node)

    async def vet(self, links: Links, members: str) -> None:
        """Nothing: it has just begun, with the configuration that we wrote."""

    async def renew(self) -> None:
        """Have it read its files again. nats-server asks about every connection anew, and none of them notices."""
        if self._child is not None:
            self._child.reload()
            if self._options.tls is not None:
                await comes_to_show(self._options.dial_host, self.port, self._options.tls.context())

    def shortage(self) -> str:
        """A disk that is full, or a write that failed."""
        if (short := disk.shortage(self._options.store_dir)) or self._child is None or not self._child.failed_write:
            return short
        return f"nats-server stores no more messages: {self._child.failed_write}"

    def stuck(self) -> bool:
        """After a write that failed, once the disk has space."""
        failed = self._child.failed_write if self._child is not None else ""
        return failed not in {"", disk.HALTED} and not disk.shortage(self._options.store_dir)

    async def drain(self) -> bool:
        """Its lame duck mode, in which it also hands over what it leads in a cluster, and stores nothing more."""
        if self._child is not None:
            self._child.drain()
        return True

    async def subdue(self) -> None:
        """Kill it."""
        if self._child is not None:
            await self._child.kill()

    async def stop(self, grace: float) -> None:
        """End it, politely for `grace` seconds; it is gone when this returns."""
        if self._child is not None:
            await self._child.stop(grace)
            self._halted = self._child.failed_write == disk.HALTED
            self._child = None
        if self._digest is not None:  # not cancelled: it ends soon, and not before the process that it asks has
            await asyncio.gather(self._digest, return_exceptions=True)
            self._digest = None

    async def _mend(self) -> None:
        """Let the store go on. Who had stopped it comes in no more, for as long as this daemon runs."""
        mended = await asyncio.to_thread(mending.mend, self._options.store_dir)
        self._halted = False
        self._in_vain = 0 if mended.users else self._in_vain + 1
        self.shut_out.find(mended.users)
        for user in sorted(mended.users):
            self._log.error("a member had stopped the messages and is shut out: revoke them", user=user)
        if mended.strange:
            self._log.error("files of nats-server are not understood and stay as they are", files=mended.strange)


def _write_private(path: Path, text: str) -> None:
    """Write a new file that only this user can read; one that is there is replaced, not reused."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)
