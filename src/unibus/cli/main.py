"""`unibus`: the group of all commands, and the one place where an error becomes a line and an exit code.

Commands are loaded when they are named, so that --help is there at once.
"""

import io
import os
import sys
from importlib import import_module
from pathlib import Path
from traceback import extract_tb
from typing import NoReturn

import click

from unibus import __version__
from unibus.cli.context import Shared
from unibus.cli.output import emit, note, printable
from unibus.errors import NotAUser, UnibusError, reason_of
from unibus.usage import usage_line

PROGRAM = "unibus"
USAGE = "usage"
"""The code of an error that click finds, beside those of `unibus.errors`, in what --json shows."""
_COMMANDS = {
    "ask": ("unibus.cli.ask", "ask one member of a room"),
    "audit": ("unibus.cli.audit", "who did what, and what was refused"),
    "backup": ("unibus.cli.backup", "the whole bus in one file, made while it runs"),
    "blob": ("unibus.cli.blob", "files in a room, encrypted"),
    "cluster": ("unibus.cli.cluster", "make, deploy and roll a cluster of nodes"),
    "demo": ("unibus.cli.demo", "the story of a bus, told against a throw-away daemon"),
    "health": ("unibus.cli.health", "how a node is, and how secure it really runs"),
    "identity": ("unibus.cli.identity", "make, show, carry or compare your identity"),
    "init": ("unibus.cli.init", "become the first admin of a new bus"),
    "join": ("unibus.cli.join", "come onto a bus by an invite"),
    "migrate-to-kv": ("unibus.cli.migrate", "move a bus from one node into a cluster"),
    "nats-config": ("unibus.cli.nats_config", "what an external nats-server needs in its configuration"),
    "posture": ("unibus.cli.posture", "all nodes of a bus, how they really run and where they differ"),
    "restore": ("unibus.cli.restore", "put a bus back from a backup"),
    "room": ("unibus.cli.room", "rooms and who is in them"),
    "send": ("unibus.cli.send", "send messages into a room"),
    "signal": ("unibus.cli.signal", "send what is not stored"),
    "tail": ("unibus.cli.tail", "read the messages of a room"),
    "user": ("unibus.cli.user", "who is on the bus"),
}


class Commands(click.Group):
    """The commands of `_COMMANDS`, each imported when it is used; their short helps stand here."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(_COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in _COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--url",
    envvar="UNIBUS_URL",
    show_envvar=True,
    default="http://127.0.0.1:8470",
    show_default=True,
    help="the daemon's control plane; of a cluster, several nodes with commas between them",
)
@click.option(
    "--identity",
    envvar="UNIBUS_IDENTITY",
    show_envvar=True,
    type=click.Path(path_type=Path, dir_okay=False),
    default=lambda: Path(click.get_app_dir("unibus")) / "identity.nk",
    show_default="identity.nk in your configuration directory",
    help="your identity's file",
)
@click.option(
    "--ca",
    envvar="UNIBUS_CA",
    show_envvar=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="authorities in pem: take the daemon's certificate from these only, not from the system's",
)
@click.option(
    "--client-cert",
    envvar="UNIBUS_CLIENT_CERT",
    show_envvar=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="a certificate and its key in one pem file, for a daemon that wants one",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="one JSON value a line, for scripts; of an error its code and message, on standard error",
)
@click.version_option(__version__, prog_name=PROGRAM)
@click.pass_context
def group(
    context: click.Context, url: str, identity: Path, ca: Path | None, client_cert: Path | None, as_json: bool
) -> None:
    """An end-to-end encrypted message bus for people, machines and bots."""
    context.obj = Shared(url, identity, as_json, ca, client_cert)


def main() -> None:
    """Parse and run one command; this does not return."""
    # Names and messages may hold what a terminal cannot show: it then shows which characters they are.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        # What a command asks for with `context.exit` comes back from here; commands themselves give nothing back.
        sys.exit(group.main(prog_name=PROGRAM, standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        if not _json():
            note(error.format_message())
            sys.exit(2)
        _fail(2, USAGE, f"missing command: see {error.ctx.command_path} --help")
    except click.ClickException as error:
        _fail(error.exit_code, USAGE, _misplaced(error) or usage_line(error))
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except UnibusError as error:
        _fail(1, error.code, _message(error))
    except OSError as error:
        # What is still buffered must not fail a second time at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(74, "io", _reason(error))  # sysexits' EX_IOERR
    except Exception as error:  # noqa: BLE001 - a person gets a line and a place to report, never a traceback
        place = extract_tb(error.__traceback__)[-1]
        where = f"{place.name}, {Path(place.filename).name}:{place.lineno}"
        # sysexits' EX_SOFTWARE
        _fail(70, UnibusError.code, f"a mistake in unibus itself, please report it: {error!r} in {where}")


def _json() -> bool:
    """Whether --json was said, also where what was said is not understood."""
    said = sys.argv[1:]
    return "--json" in (said[: said.index("--")] if "--" in said else said)


def _fail(status: int, code: str, text: str) -> NoReturn:
    if _json():
        emit({"error": code, "message": text}, err=True)
    else:
        note(f"{PROGRAM}: {printable(text)}")
    sys.exit(status)


def _misplaced(error: click.ClickException) -> str | None:
    """What to say of an option of all commands that was given to one."""
    if not isinstance(error, click.NoSuchOption):
        return None
    if not any(error.option_name in param.opts for param in group.params):
        return None
    rest = error.ctx.command_path.removeprefix(PROGRAM) if error.ctx else ""
    return f"{error.option_name} goes before the command: {PROGRAM} {error.option_name} …{rest}"


def _reason(error: OSError) -> str:
    what = f"{error.filename}: " if error.filename else ""
    return f"{what}{reason_of(error)}"


def _message(error: UnibusError) -> str:
    if isinstance(error, NotAUser):
        return (
            "this identity is not on the bus, or no longer: give the output of unibus identity show --card "
            "to an admin, for unibus user add"
        )
    return error.message
