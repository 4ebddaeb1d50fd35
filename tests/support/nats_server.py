"""A nats-server that a test runs itself, as an operator would: from a configuration of its own."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.processes import WAIT
from unibus.bus import binary


class NatsServer:
    """nats-server on a free port, which it keeps when it is started again. `home` holds all that it writes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def configure(self, text: str) -> None:
        """What its configuration says, besides where it listens."""
        self.home.mkdir(exist_ok=True)
        (self.home / "extra.conf").write_text(text)

    async def start(self) -> None:
        """Start it; return when it listens."""
        listen = f'host: "127.0.0.1"\nport: {self.port or -1}\nports_file_dir: "{self.home}"\ninclude "extra.conf"\n'
        (self.home / "server.conf").write_text(listen)
        log = (self.home / "log").open("ab")
        with log:
            self._process = await asyncio.create_subprocess_exec(
                *(binary.find(None), "-c", self.home / "server.conf"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        ports = self.home / f"nats-server_{self._process.pid}.ports"
        async with asyncio.timeout(WAIT):
            while not self.port or not ports.exists():
                assert self._process.returncode is None, (self.home / "log").read_text()
                await asyncio.sleep(0.01)
                try:
                    self.port = int(json.loads(ports.read_bytes())["nats"][0].rpartition(":")[2])
                except (OSError, ValueError):
                    continue  # not written yet

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def freeze(self) -> None:
        """Stop it, and return when none of its threads runs any more: until then it still answers."""
        self.send(signal.SIGSTOP)
        async with asyncio.timeout(WAIT):
            while not _is_frozen(self.pid):  # noqa: ASYNC110 - another process's doing, which sends no event
                await asyncio.sleep(0.005)

    async def kill(self) -> None:
        """`kill -9`, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def _is_frozen(pid: int) -> bool:
    states = ((task / "stat").read_text().rpartition(") ")[2][0] for task in Path(f"/proc/{pid}/task").iterdir())
    return all(state == "T" for state in states)


@asynccontextmanager
async def nats_server(home: Path, configuration: str) -> AsyncIterator[NatsServer]:
    """One that runs, and is killed at the end."""
    server = NatsServer(home)
    server.configure(configuration)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()
