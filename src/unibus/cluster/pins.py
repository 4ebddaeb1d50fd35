"""What a node needs of `requirements.lock`: the part that unibus itself runs on, without what its makers use. Pure.

The lock says of each package who wants it; what can be reached from the project's own dependencies stays. Must never
let a package through without its hashes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from unibus.errors import InvalidInput

PROJECT = "unibus (pyproject.toml)"
_PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==([^\s;\\]+)\s*(;[^\\]*)?\\?$")
_HASH = re.compile(r"^    --hash=(sha256:[0-9a-f]{64})")
_WANTED = re.compile(r"^    #\s+(?:via )?(\S.*)$")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Pin:
    """One package at one version, with the hashes that it may have, and who wants it."""

    name: str
    version: str
    hashes: tuple[str, ...]
    wanted_by: tuple[str, ...]

    def line(self, hashes: tuple[str, ...] | None = None) -> str:
        """The pin as a line of a requirements file, with these hashes or its own."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash={one}" for one in hashes or self.hashes)])


def runtime(lock: str, dependencies: list[str]) -> list[Pin]:
    """The pins that `dependencies` (as in pyproject.toml) and all they need come to, by name. Raises InvalidInput."""
    pins = _read(lock)
    roots = {_canonical(found[0]) for text in dependencies if (found := _NAME.match(text))}
    if lost := sorted(roots - set(pins)):
        raise InvalidInput(f"requirements.lock has no {', '.join(lost)}: make lock")
    kept, grown = set(roots), True
    while grown:
        more = {name for name, pin in pins.items() if kept.intersection(pin.wanted_by)} - kept
        kept, grown = kept | more, bool(more)
    return [pins[name] for name in sorted(kept)]


def _read(lock: str) -> Mapping[str, Pin]:
    pins: dict[str, Pin] = {}
    for block in re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE):
        lines = block.splitlines()
        if not lines or lines[0].startswith("#") or not lines[0].strip():
            continue
        head = _PIN.match(lines[0].strip())
        if head is None:
            raise InvalidInput(f"requirements.lock: {lines[0]!r} is not a pinned package")
        hashes = tuple(found[1] for line in lines if (found := _HASH.match(line)))
        if not hashes:
            raise InvalidInput(f"requirements.lock: {head[1]} has no hashes")
        wanted = tuple(found[1].strip() for line in lines if (found := _WANTED.match(line)) and found[1] != "via")
        pins[head[1]] = Pin(head[1], head[2], hashes, tuple(name for name in wanted if name != PROJECT))
    return pins


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
