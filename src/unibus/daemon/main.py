"""`unibus-membershipd`: parse, start one node, say where it is, wait for the end. An error becomes one line."""

import asyncio
import shlex
import shutil
import signal
import sys
from pathlib import Path

import click
import structlog
import uvloop

from unibus import __version__
from unibus.daemon.data_dir import TOKEN
from unibus.daemon.logs import configure
from unibus.daemon.node import Node
from unibus.daemon.options import Options, check, flags
from unibus.errors import UnibusError

log = structlog.stdlib.get_logger("unibus.node")


@click.command(
    context_settings={"auto_envvar_prefix": "UNIBUS", "show_default": True, "help_option_names": ["-h", "--help"]}
)
@flags
@click.version_option(__version__, prog_name="unibus-membershipd")
def main(**given: object) -> None:
    """The unibus daemon: an HTTP control plane and a supervised nats-server with JetStream.

    Every option can also be given as a variable: UNIBUS_ and the option's name in capitals, such as UNIBUS_HTTP_BIND.
    """
    try:
        options = check(**given)  # type: ignore[arg-type]  # click has made the types that `flags` names
        configure()
        sys.exit(uvloop.run(run(options)))
    except UnibusError as error:
        click.echo(f"unibus-membershipd: {error.message}", err=True)
        sys.exit(1)


async def run(options: Options) -> int:
    """Run one node until SIGTERM or SIGINT (0), or until a part of it fails for good (70, sysexits' EX_SOFTWARE).

    SIGHUP renews its certificate meanwhile.
    """
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    hangups = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hangups.set)
    async with Node(options) as node:
        for line in greeting(options, node.http_port, node.bus.client_port, founded=node.founded, program=_program()):
            click.echo(line)
        node.failed.add_done_callback(lambda _: asked.set())
        renewing = asyncio.create_task(_renew_at(hangups, node), name="certificate renewal")
        await asked.wait()
        renewing.cancel()
        if node.failed.done():
            log.critical("a part of the node failed", exc_info=node.failed.exception())
            return 70
        log.info("stopping")
    return 0


async def _renew_at(hangups: asyncio.Event, node: Node) -> None:
    while True:
        await hangups.wait()
        hangups.clear()
        await node.renew_certificate()


def greeting(options: Options, http_port: int, nats_port: int, *, founded: bool, program: str) -> list[str]:
    """What a person at the terminal is told at the start; on a bus without users, the one command to type next."""
    lines = [
        f"unibus {__version__}",
        f"  http  {options.http_host}:{http_port}",
        f"  nats  {options.nats_host}:{nats_port}  bus-auth {options.bus_auth}",
        f"  data  {options.data_dir}",
    ]
    if not founded:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(options.http_host, options.http_host)  # noqa: S104 - compared, not bound
        scheme = "http" if options.tls is None else "https"
        url = f"{scheme}://[{host}]:{http_port}" if ":" in host else f"{scheme}://{host}:{http_port}"
        command = [program, *(["--url", url] if url != "http://127.0.0.1:8470" else []), "init", "YOUR-HANDLE"]
        if options.data_dir != Path("local_files"):
            command += ["--token-file", str(options.data_dir / TOKEN)]
        lines += [
            "",
            "this bus has no users yet. become its first admin, in another terminal:",
            f"  {shlex.join(command)}",
        ]
    return lines


def _program() -> str:
    started = Path(sys.argv[0])
    beside = (started if started.name == "unibus-membershipd" else Path(sys.executable)).with_name("unibus")
    found = shutil.which("unibus")
    return "unibus" if found and Path(found).resolve() == beside.resolve() else str(beside)
