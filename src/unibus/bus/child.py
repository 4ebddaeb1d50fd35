"""One nats-server process: started, listened to, ended. Must never outlive the daemon nor be left behind unawaited."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Collection
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from unibus.bus import launch
from unibus.bus.disk import HALTED, failed_write
from unibus.errors import BusUnavailable, reason_of

_LINE = re.compile(r"\[\d+\] (?:.*? )?\[(DBG|TRC|INF|WRN|ERR|FTL)\] (.*)")
_NO_PORT = re.compile(r"(.*)listen tcp (\S+): bind: ([^\"]*)\"?")
_LONGEST_LINE = 8192
_POLL = 0.01


class Child:
    """A running nats-server. `trouble` is what it said it cannot live with, `failed_write` why it stores no more.

    `halted` is done when that is what a member has done to a stream. `name_taken` is whether another server that calls
    itself the same has come to its routes.
    """

    def __init__(self, process: asyncio.subprocess.Process, log: FilteringBoundLogger) -> None:
        self._process = process
        self._log = log
        self.halted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.trouble = ""
        self.failed_write = ""
        self.name_taken = False
        self._draining = False
        self.ended: asyncio.Task[str] = asyncio.create_task(self._listen(), name="nats-server output")

    @classmethod
    async def start(
        cls, binary: Path, config: Path, log: FilteringBoundLogger, descriptors: Collection[int] = ()
    ) -> "Child":
        """Start `binary` with `config`; it inherits `descriptors`. Raises BusUnavailable if the machine cannot now."""
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", launch.__file__, str(os.getpid())),
                *(binary, "-c", config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env={},
                pass_fds=descriptors,
                start_new_session=True,  # a terminal's ctrl-c is for the daemon, which then ends the server itself
            )
        except OSError as error:
            raise BusUnavailable(f"nats-server cannot be started: {reason_of(error)}") from error
        return cls(process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def reload(self) -> None:
        """Have the server read its configuration again, with all files that it names; it does so soon."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGHUP)

    async def port(self, run_dir: Path, listener: str = "nats") -> int:
        """The port of a listener (`nats`, `websocket`), once it is there. Raises BusUnavailable if it ended before."""
        ports = run_dir / f"nats-server_{self.pid}.ports"
        while not self.ended.done():
            # nats-server writes the file after it listens; half of it may be seen.
            with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
                address = json.loads(ports.read_bytes())[listener][0]
                return int(address.rpartition(":")[2])
            await asyncio.sleep(_POLL)
        raise BusUnavailable(self.ended.result())

    def drain(self) -> None:
        """Have the server take in nobody more, and tell those who are there to leave."""
        if not self.ended.done():
            self._draining = True
            self._tell(signal.SIGUSR2)

    async def stop(self, grace: float) -> None:
        """End the server, politely first; by force after `grace` seconds."""
        try:
            if not self.ended.done():
                self._tell(signal.SIGINT if self._draining else signal.SIGTERM)  # who drains takes no SIGTERM
                await asyncio.wait([self.ended], timeout=grace)
        finally:
            await self.kill()

    async def kill(self) -> None:
        """End the server now, and return when it is gone."""
        if not self.ended.done():
            self._tell(signal.SIGKILL)
        await asyncio.wait([self.ended])

    def _tell(self, number: signal.Signals) -> None:
        """Signal the server and all that it has started: it leads a session of its own, and may be in a wrapper."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def _listen(self) -> str:
        """Log what the server says until it ends; why it ended."""
        assert self._process.stderr is not None  # noqa: S101 - asked for at the start; for the type checker
        rest = b""
        while chunk := await self._process.stderr.read(_LONGEST_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._heard(line.decode("utf-8", "replace"))
            rest = rest[:_LONGEST_LINE]
        status = await self._process.wait()
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"nats-server {how}" + (f": {self.trouble}" if self.trouble else "")

    def _heard(self, line: str) -> None:
        known = _LINE.fullmatch(line)
        level, text = known.groups() if known else ("FTL", line.removeprefix("nats-server: "))
        # ERR lines are mostly about clients, and clients choose words in them. Of many bare lines the first one tells.
        if level == "FTL" and (known or not self.trouble):
            self.trouble = _for_people(text[:500])
        self.failed_write = self.failed_write or failed_write(text)
        if self.failed_write == HALTED and not self.halted.done():
            self.halted.set_result(None)
        self.name_taken = self.name_taken or text.endswith("Router connection closed: Duplicate Server Name")
        # What a client did wrong is an ERR line too, so nothing of the server's is more than a warning here.
        (self._log.warning if level in {"WRN", "ERR", "FTL"} else self._log.debug)("nats-server", line=text)


def _for_people(fatal: str) -> str:
    """What nats-server said last; where it was refused a port, which option of the daemon's has that."""
    found = _NO_PORT.fullmatch(fatal)
    if found is None:
        return fatal
    option = {"router": "--cluster-bind", "websocket": "--nats-ws-bind"}
    (flag, *_) = [flag for word, flag in option.items() if word in found[1]] or ["--nats-bind"]
    taken = "end what listens there, or " if "in use" in found[3] else ""
    return f"cannot listen on {flag} {found[2]}: {found[3]}; {taken}name another"
