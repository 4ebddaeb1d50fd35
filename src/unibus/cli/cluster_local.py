"""`unibus cluster local`: a whole cluster on this machine, in the foreground, for trying it out."""

import asyncio
import shlex
import signal
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import examples, note, printable, say
from unibus.errors import StartRefused

if TYPE_CHECKING:
    from unibus.cli.local_nodes import LocalNodes
    from unibus.cluster.local import LocalNode

BASE_PORT = 8470


@click.command(
    "local",
    short_help="a whole cluster on this machine, for trying it",
    epilog=examples("unibus cluster local --base-port 9470"),
)
@click.option("--nodes", "count", type=click.IntRange(3, 9), default=3, show_default=True, help="how many nodes")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="where the cluster keeps everything, taken up again the next time; without it nothing is kept",
)
@click.option(
    "--base-port",
    type=int,
    default=BASE_PORT,
    show_default=True,
    help="n1 has this port and the next two, n2 those ten further, and so on",
)
@pass_shared
def local(shared: Shared, count: int, directory: Path | None, base_port: int) -> None:
    """Start a whole cluster on this machine, in the foreground; ctrl-c ends all of it.

    The nodes are real, with certificates of their own authorities on all planes. A node that ends is not started again.
    """
    from unibus.cluster.local import lay_out

    nodes = lay_out(count, base_port)
    if directory is not None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        run(_run(shared, directory.absolute(), nodes))
        return
    with tempfile.TemporaryDirectory(prefix="unibus-cluster-") as name:
        run(_run(shared, Path(name), nodes))


async def _run(shared: Shared, base: Path, nodes: "tuple[LocalNode, ...]") -> None:
    from unibus.cli.local_nodes import local_nodes

    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, asked.set)
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(local_nodes(base, nodes))
        serving = asyncio.create_task(_serve(shared, made), name="local cluster")
        ending = asyncio.create_task(asked.wait(), name="end")
        try:
            await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving
        finally:
            for task in (serving, ending):
                task.cancel()
            await asyncio.gather(serving, ending, return_exceptions=True)


async def _serve(shared: Shared, made: "LocalNodes") -> None:
    """Start all nodes, tell where they are, and return once all have ended."""
    for node in made.nodes:
        await made.start(node)
    try:
        await made.well()
    except StartRefused as error:
        if error.message.endswith("name another"):  # a port, which a node would have from an option of its own
            raise StartRefused(f"{error.message} with --base-port") from error
        raise
    _tell(shared, made)
    ends = {asyncio.create_task(process.wait()): name for name, process in made.running.items()}
    left = set(ends)
    while left:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        for end in done:
            name = ends[end]
            again = f"(. {_quoted(made.base / 'cluster' / 'out' / name / 'cluster.env')}; unibus-membershipd)"
            note(f"{name} has ended with status {end.result()}; to start it again: {again}")


def _tell(shared: Shared, made: "LocalNodes") -> None:
    from unibus.cli.local_nodes import token_of
    from unibus.cluster.local import authority, data_dir

    ca, token = authority(made.base), token_of(made)
    if shared.json:
        told = [{"name": node.name, "url": node.url, "data": str(data_dir(made.base, node))} for node in made.nodes]
        shared.tell({"nodes": told, "url": made.url, "ca": str(ca), "token": str(token) if token else None})
        return
    for node in made.nodes:
        say(f"  {node.name}  {node.url}  {printable(str(data_dir(made.base, node)))}")
    say(f"  ca  {printable(str(ca))}")
    say("")
    say("in another terminal:")
    say(f"  export UNIBUS_URL={made.url} UNIBUS_CA={_quoted(ca)}")
    if token is not None:
        say(f"  unibus init YOUR-HANDLE --token-file {_quoted(token)}")


def _quoted(path: Path) -> str:
    return shlex.quote(printable(str(path)))
