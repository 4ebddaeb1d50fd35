"""The bus's own keys on disk, for a nats-server that somebody else runs: that one has to know them through all starts.

The file is for its owner's eyes and is made once. Must never use one that others could have read or written, nor put a
secret into an error.
"""

import contextlib
import json
import os
import secrets
import shlex
import stat
from collections.abc import Callable
from pathlib import Path

from nacl.public import PrivateKey
from pydantic import BaseModel, ConfigDict, ValidationError

from unibus.bus.keys import BusKeys
from unibus.crypto.nkeys import SigningKey, decode_seed, encode_seed
from unibus.errors import InvalidInput, KeyCustody, reason_of
from unibus.store.files import sync_directory

NAME = "bus-keys"
_LARGEST = 4096
_OTHERS = 0o077


class _Seeds(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    issuer: str
    auth: str
    core: str
    system: str
    curve: str


def bus_keys(data_dir: Path, random: Callable[[int], bytes]) -> BusKeys:
    """The keys in the data directory, made with `random` at the first call. Raises KeyCustody.

    Two processes that make them at the same moment get the same.
    """
    path = data_dir / NAME
    try:
        try:
            content = _read(path)
        except FileNotFoundError:
            _make(path, BusKeys.generate(random))
            content = _read(path)
    except OSError as error:
        raise KeyCustody(f"cannot keep the bus's keys in {path}: {reason_of(error)}") from error
    try:
        seeds = _Seeds.model_validate_json(content)
        return BusKeys(
            issuer=SigningKey.from_seed(decode_seed(seeds.issuer, "A"), "A"),
            auth=SigningKey.from_seed(decode_seed(seeds.auth)),
            core=SigningKey.from_seed(decode_seed(seeds.core)),
            system=SigningKey.from_seed(decode_seed(seeds.system)),
            curve=PrivateKey(decode_seed(seeds.curve, "X")),
        )
    except (ValidationError, InvalidInput):
        # Without its cause, which would show what stands in the file.
        raise KeyCustody(
            f"{path} does not hold a bus's keys: put back the right file, or move it away and give the server what "
            "unibus nats-config prints then"
        ) from None


def _read(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
            raise KeyCustody(f"{path} is not a file of yours: run as its owner, or make it yours with chown")
        if facts.st_mode & _OTHERS:
            raise KeyCustody(f"{path} can be read by others: chmod 600 {shlex.quote(str(path))}")
        return file.read(_LARGEST)


def _make(path: Path, keys: BusKeys) -> None:
    seeds = {
        "issuer": encode_seed("A", keys.issuer.seed),
        "auth": encode_seed("U", keys.auth.seed),
        "core": encode_seed("U", keys.core.seed),
        "system": encode_seed("U", keys.system.seed),
        "curve": encode_seed("X", bytes(keys.curve)),
    }
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(seeds, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # somebody was faster: theirs are the keys
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(path.parent)
