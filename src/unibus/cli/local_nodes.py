"""The nodes of a cluster on this machine as processes of ours: started, asked how they are, killed, ended.

Each is tied to this process by the kernel, and so is its nats-server to it: none outlives us, however we end. Must
never start one again by itself: whoever tries a cluster out wants to see what the loss of a node does.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from unibus.bus import launch
from unibus.client.health import fetch_health
from unibus.client.trust import make_context
from unibus.cluster.local import LocalNode, authority, data_dir, environment, prepare
from unibus.errors import StartRefused, UnibusError

WELL_WITHIN = 60.0
END_WITHIN = 15.0
_ASK_WITHIN = 3.0
_LOOK = 0.1


class LocalNodes:
    """Made by `local_nodes`. `running` holds the process of each node that was started, by name."""

    def __init__(self, base: Path, nodes: Sequence[LocalNode]) -> None:
        self.base, self.nodes = base, tuple(nodes)
        self.running: dict[str, asyncio.subprocess.Process] = {}
        self.tls = make_context(authority(base))

    @property
    def url(self) -> str:
        """Where clients find the bus: all nodes, with commas between them."""
        return ",".join(node.url for node in self.nodes)

    @property
    def ended(self) -> dict[str, int]:
        """The exit statuses of the nodes that have ended, by name."""
        return {name: one.returncode for name, one in self.running.items() if one.returncode is not None}

    def log_of(self, node: LocalNode) -> Path:
        """Where what a node says is kept."""
        return self.base / f"{node.name}.log"

    async def start(self, node: LocalNode) -> None:
        """Start a node; it serves when it is well."""
        with self.log_of(node).open("ab") as log:
            self.running[node.name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launch.__file__, str(os.getpid())),
                *(sys.executable, "-m", "unibus.daemon"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(self.base, self.nodes, node),  # and nothing that was meant for another daemon
                start_new_session=True,  # a terminal's ctrl-c is for us, who then end all nodes
            )

    async def health(self, node: LocalNode) -> Mapping[str, Any] | None:
        """What a node says of itself; None when it is silent."""
        with contextlib.suppress(UnibusError):
            return await fetch_health(node.url, _ASK_WITHIN, self.tls)
        return None

    async def well(self) -> None:
        """Return once all nodes are well. Raises StartRefused when one ends, or is not well in time."""
        waiting = list(self.nodes)
        until = time.monotonic() + WELL_WITHIN
        while waiting:
            for name, status in self.ended.items():
                (node,) = (node for node in self.nodes if node.name == name)
                raise StartRefused(f"{name} ended with status {status}: {self._last_words(node)}")
            if time.monotonic() > until:
                raise StartRefused(
                    f"{waiting[0].name} is not well after {WELL_WITHIN:.0f} s: see {self.log_of(waiting[0])}"
                )
            told = await self.health(waiting[0])
            if told is not None and told["status"] == "ok":
                del waiting[0]
            else:
                await asyncio.sleep(_LOOK)

    async def kill(self, node: LocalNode) -> None:
        """`kill -9` of a node; its nats-server goes with it."""
        process = self.running[node.name]
        process.kill()
        await process.wait()

    async def end(self) -> None:
        """End all nodes, politely first; they are gone when this returns."""
        left = [one for one in self.running.values() if one.returncode is None]
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        ends = [asyncio.ensure_future(process.wait()) for process in left]
        if ends:
            await asyncio.wait(ends, timeout=END_WITHIN)
        for process in left:
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*ends)

    def _last_words(self, node: LocalNode) -> str:
        lines = self.log_of(node).read_text(errors="replace").splitlines()
        return (lines or ["it said nothing"])[-1].removeprefix("unibus-membershipd: ")


@asynccontextmanager
async def local_nodes(base: Path, nodes: Sequence[LocalNode]) -> AsyncIterator[LocalNodes]:
    """Nodes with their material and data in `base`, none of which is started; all are ended with the block.

    Raises InvalidInput, KeyCustody, OSError.
    """
    prepare(base, nodes, now=time.time(), random=os.urandom)
    made = LocalNodes(base, nodes)
    try:
        yield made
    finally:
        await made.end()


def token_of(made: LocalNodes) -> Path | None:
    """Where the first node's bootstrap token is; None on a bus that is founded."""
    path = data_dir(made.base, made.nodes[0]) / "bootstrap-token"
    return path if path.exists() else None
