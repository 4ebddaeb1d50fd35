"""`unibus identity export|import|fingerprint`: carrying an identity elsewhere, and comparing it with another person."""

import os
import stat
import sys
from pathlib import Path

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import emit, examples, say
from unibus.errors import InvalidInput, KeyCustody, reason_of

_passphrase_file = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="a file whose first line is the passphrase, instead of being asked for it",
)


@click.command(
    "export", short_help="write it to a file, under a passphrase", epilog=examples("unibus identity export alice.pem")
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_passphrase_file
@pass_shared
def export(shared: Shared, file: Path, passphrase_file: Path | None) -> None:
    """Write your identity to FILE under a passphrase: encrypted PKCS#8, which openssl reads too."""
    from unibus.client.identity_export import export_identity

    identity = shared.identity()
    if file.exists():
        raise KeyCustody(f"there is a file {file} already: it is kept; name another")
    export_identity(identity, file, _passphrase(passphrase_file, twice=True))
    shared.tell(
        {"user": identity.user, "exported": str(file)},
        f"wrote {identity.user}",
        f"  to {file}: whoever has it and the passphrase is you",
    )


@click.command(
    "import",
    short_help="take it from such a file",
    epilog=examples("unibus --identity alice.nk identity import alice.pem"),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_passphrase_file
@pass_shared
def import_(shared: Shared, file: Path, passphrase_file: Path | None) -> None:
    """Take the identity in FILE for yours. An identity that is there is never overwritten."""
    from unibus.client.identity_export import import_identity, read_export

    if shared.identity_path.exists():
        raise KeyCustody(
            f"there is an identity at {shared.identity_path} already: it is kept; name another place with --identity"
        )
    content = read_export(file)
    identity = import_identity(content, shared.identity_path, _passphrase(passphrase_file, twice=False))
    shared.tell(
        {"user": identity.user, "path": str(shared.identity_path)},
        f"you are {identity.user}",
        f"  in {shared.identity_path}",
    )


@click.command(
    "fingerprint",
    short_help="digits to read to each other",
    epilog=examples("unibus identity fingerprint", "unibus identity fingerprint bob"),
)
@click.argument("handle", required=False)
@pass_shared
def fingerprint(shared: Shared, handle: str | None) -> None:
    """Show the digits of your identity, or of HANDLE's in the verified directory.

    Read them to each other, on the phone for one: if both see the same, nobody stands between you.
    """
    from unibus.crypto.fingerprint import fingerprint as digits

    async def of_user(handle: str) -> tuple[str, bytes]:
        async with shared.bus() as bus:
            found = bus.find(handle)
            return found.user, found.sealing

    if handle is None:
        identity = shared.identity()
        user, sealing = identity.user, identity.sealing.public
    else:
        user, sealing = run(of_user(handle))
    groups = digits(user, sealing)
    if shared.json:
        emit({"user": user, "fingerprint": " ".join(groups)})
    else:
        for at in range(0, len(groups), 4):
            say(" ".join(groups[at : at + 4]))


def _passphrase(file: Path | None, *, twice: bool) -> bytes:
    from unibus.crypto.pkcs8 import passphrase_bytes

    if file is not None:
        return passphrase_bytes(_first_line(file))
    if not sys.stdin.isatty():
        raise InvalidInput("there is no terminal to ask for the passphrase on: give it with --passphrase-file")
    asked: str = click.prompt(
        "passphrase", hide_input=True, confirmation_prompt="once more" if twice else False, err=True
    )
    return passphrase_bytes(asked)


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            line = file.readline(4096)
    except OSError as error:
        raise KeyCustody(f"cannot read the passphrase in {path}: {reason_of(error)}") from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise KeyCustody(f"others can read the passphrase in {path}: close it with chmod 600 {path}")
    return line.rstrip(b"\r\n").decode(errors="surrogateescape")
