"""`unibus-membershipd`: parse, start one node, say where it is, wait for the end. An error becomes one line."""

import asyncio
import gc
import os
import resource
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click
import structlog
import uvloop

import unibus.daemon.lean  # noqa: F401 - before everything that loads aiohttp

# isort: split
from unibus import __version__
from unibus.daemon.data_dir import TOKEN
from unibus.daemon.limit_options import Sectioned
from unibus.daemon.logs import configure
from unibus.daemon.node import Node
from unibus.daemon.notify import Manager
from unibus.daemon.options import Options, check, flags, service_manager
from unibus.errors import UnibusError
from unibus.tasks import end_tasks
from unibus.usage import usage_line

log = structlog.stdlib.get_logger("unibus.node")

PROGRAM = "unibus-membershipd"
SWITCH_SECONDS = 0.0005
"""How long the event loop may keep a thread waiting that has something to do. Commits are made in a thread, which asks
for the interpreter at every step of SQLite's: with Python's 5 ms a busy loop nearly doubled the time of a request.
"""
GARBAGE = (20_000, 20, 50)
"""After how many more objects the interpreter looks for those that only refer to each other, and how seldom for older
ones. A request makes hundreds, nearly all of which go by themselves: with Python's 700 the search took a sixth of a
signed append's time.
"""
OPEN_FILES = 65_536
"""As many as the units of `deploy` allow. A shell's 1024 are too few for the HTTP connections that are refused, so
whoever opened those would keep the node from its own files."""
_STOPS_WITHIN = 120.0  # seconds, generously: members leave, what is written is flushed, nats-server ends


@click.command(
    cls=Sectioned,
    epilog="\b\nFor example:\n  unibus-membershipd --data-dir /var/lib/unibus --tls-cert node.crt --tls-key node.key",
    context_settings={"auto_envvar_prefix": "UNIBUS", "show_default": True, "help_option_names": ["-h", "--help"]},
)
@flags
@click.version_option(__version__, prog_name=PROGRAM)
def command(**given: object) -> None:
    """The unibus daemon: an HTTP control plane and a supervised nats-server with JetStream.

    Every option can also be given as a variable: UNIBUS_ and the option's name in capitals, such as UNIBUS_HTTP_BIND.
    """
    manager = Manager(service_manager(), os.getpid())
    try:
        options = check(**given)  # type: ignore[arg-type]  # click has made the types that `flags` names
        configure()
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.set_threshold(*GARBAGE)
        usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= usual < OPEN_FILES:  # below 0 is no limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES if most < 0 else min(OPEN_FILES, most), most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not write the daemon's keys to disk
        sys.exit(uvloop.run(run(options, manager)))
    except UnibusError as error:
        manager.tell(STATUS=error.message)
        _complain(error.message)
        sys.exit(1)


def main() -> None:
    """Parse and run the daemon to its end; this does not return."""
    try:
        sys.exit(command.main(prog_name=PROGRAM, standalone_mode=False))
    except click.ClickException as error:
        _complain(usage_line(error))
        sys.exit(error.exit_code)
    except click.Abort:  # an interrupt before there was anything to end
        sys.exit(130)


def _complain(what: str) -> None:
    click.echo(f"{PROGRAM}: {what}", err=True)


async def run(options: Options, manager: Manager) -> int:
    """Run one node until SIGTERM or SIGINT (0), or until a part of it fails for good (70, sysexits' EX_SOFTWARE).

    Either signal ends a start that is still going on, too. SIGHUP renews the node's certificate meanwhile. Raises
    UnibusError where a start was refused, or where a part of the node gave up for a reason that a person can mend.
    """
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    hangups = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hangups.set)
    serving = asyncio.create_task(_serve(options, hangups, manager), name="node")
    ending = asyncio.create_task(asked.wait(), name="end")
    try:
        await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ending.cancel()
    if not serving.done():
        log.info("stopping")
        manager.tell(STOPPING="1", STATUS="stopping")
        await end_tasks(serving, again=_STOPS_WITHIN)
    return 0 if serving.cancelled() else serving.result()


async def _serve(options: Options, hangups: asyncio.Event, manager: Manager) -> int:
    """Run one node until it fails, which is what the status says, or this is cancelled."""
    async with Node(options) as node:
        for line in greeting(options, node.http_port, node.bus.client_port, founded=node.founded, program=_program()):
            click.echo(line)
        manager.tell(READY="1")
        where = f"http {options.http_host}:{node.http_port}, nats {options.nats_host}:{node.bus.client_port}"
        informing = manager.keep_informed(node.bus.status, lambda bus: status(where, bus), time.monotonic)
        node.own(asyncio.create_task(_renew_at(hangups, node, manager), name="certificate renewal"))
        node.own(asyncio.create_task(informing, name="watchdog"))
        await asyncio.wait([node.failed])
        error = node.failed.exception()
        if isinstance(error, UnibusError):
            raise error
        log.critical("a part of the node failed", exc_info=error)
    return 70


async def _renew_at(hangups: asyncio.Event, node: Node, manager: Manager) -> None:
    while True:
        await hangups.wait()
        hangups.clear()
        manager.tell(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))
        await node.renew_certificate()
        manager.tell(READY="1")


def status(where: str, bus: Mapping[str, object]) -> str:
    """The one line that a service manager shows: where the node listens, and what is wrong with its bus."""
    return f"{where}, bus-auth {bus['auth']}" + ("" if bus["ready"] else f"; the bus is down: {bus['reason']}")


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
        url = options.public_url or url
        command = [program, *(["--url", url] if url != "http://127.0.0.1:8470" else []), "init", "YOUR-HANDLE"]
        if options.data_dir != Path("local_files"):
            command += ["--token-file", str(options.data_dir / TOKEN)]
        told = ["this bus has no users yet. become its first admin, in another terminal:"]
        if options.tls is not None:
            told = [
                "this bus has no users yet. become its first admin, in another terminal,",
                "by a name that the certificate has, and with --ca only for an authority of your own:",
            ]
            command[1:1] = ["--ca", "AUTHORITY.pem"]
            if options.tls.authorities is not None:
                command[1:1] = ["--client-cert", "YOURS.pem"]
        lines += [
            "",
            *told,
            f"  {shlex.join(command)}",
        ]
    return lines


def _program() -> str:
    started = Path(sys.argv[0])
    beside = (started if started.name == PROGRAM else Path(sys.executable)).with_name("unibus")
    found = shutil.which("unibus")
    return "unibus" if found and Path(found).resolve() == beside.resolve() else str(beside)
