"""Which nats-server the daemon uses, and how much its own one takes: the flags about NATS, checked.

A flag for an own server beside one of somebody else's is refused, never ignored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click

from unibus.crypto.nkeys import decode_public
from unibus.daemon.addresses import is_loopback
from unibus.errors import InvalidInput, StartRefused
from unibus.model.sizes import parse_size

BIND = "0.0.0.0:4250"
CONNECTIONS = 10_000
LEAST_STORE = 64 << 20
_PORT = 4222


@dataclass(frozen=True, slots=True)
class NatsUrl:
    """Where a nats-server of somebody else's is; `secure` over TLS, with the authorities in `ca` or the system's."""

    host: str
    port: int
    secure: bool
    ca: Path | None

    @property
    def local(self) -> bool:
        """Whether it is on this machine, so that what is sent there passes no wire."""
        return is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class NatsLimits:
    """What an own server takes: `connections` at once, `store` bytes of messages, None for most of the disk."""

    connections: int = CONNECTIONS
    store: int | None = None


def parse_url(text: str, ca: Path | None) -> NatsUrl:
    """The place in `--nats-url`. Raises StartRefused."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise StartRefused("--nats-url takes tls://HOST:PORT, or nats:// on this machine") from None
    if url.scheme not in {"nats", "tls"} or not url.hostname or url.path.strip("/") or url.query or url.fragment:
        raise StartRefused("--nats-url takes tls://HOST:PORT, or nats:// on this machine")
    if url.username is not None or url.password is not None:
        raise StartRefused("--nats-url takes no user and no password: the daemon has keys, see unibus nats-config")
    place = NatsUrl(url.hostname, port or _PORT, url.scheme == "tls", ca)
    if not place.secure and not place.local:
        raise StartRefused(f"--nats-url to another host needs tls: write tls://{place.host}:{place.port}")
    if ca is not None and not place.secure:
        raise StartRefused("--nats-ca is for tls:// in --nats-url")
    return place


def refuse_beside_url(given: Mapping[str, object]) -> None:
    """`given` are flags for an own server with what they say, None for nothing. Raises StartRefused for the first."""
    for flag, value in given.items():
        if value is not None:
            raise StartRefused(f"{flag} is for a nats-server of the daemon's own: leave it or --nats-url out")


def nats_limits(connections: int, store: str | None) -> NatsLimits:
    """The limits behind the flags. Raises StartRefused."""
    if store is None:
        return NatsLimits(connections)
    try:
        size = parse_size(store)
    except InvalidInput as error:
        raise StartRefused(f"--nats-max-store: {error.message}") from error
    if size < LEAST_STORE:
        raise StartRefused(f"--nats-max-store takes at least {LEAST_STORE >> 20}M")
    return NatsLimits(connections, size)


def operators(keys: Sequence[str]) -> tuple[str, ...]:
    """The public nkeys in `--nats-operator`, each once. Raises StartRefused, which never repeats a seed."""
    for key in keys:
        try:
            decode_public(key)
        except InvalidInput as error:
            raise StartRefused(f"--nats-operator takes a public user nkey (U…): {error.message}") from error
    return tuple(dict.fromkeys(keys))


FLAGS = (
    click.option("--nats-url", metavar="URL", help="a nats-server of somebody else's; see unibus nats-config"),
    click.option(
        "--nats-ca", type=click.Path(path_type=Path), help="authorities in pem for its certificate, not the system's"
    ),
    click.option(
        "--max-nats-connections",
        default=CONNECTIONS,
        type=click.IntRange(min=16),
        help="NATS connections at once",
    ),
    click.option(
        "--nats-max-store", metavar="SIZE", show_default="what leaves a tenth of the disk", help="all stored messages"
    ),
    click.option(
        "--nats-operator",
        "nats_operators",
        multiple=True,
        metavar="NKEY",
        envvar="UNIBUS_NATS_OPERATOR",
        help="the public key of an operator who comes with stock NATS tools, to look and to keep all on more nodes",
    ),
)
