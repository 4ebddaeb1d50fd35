"""What a node is told about its cluster: the flags, checked. What would make the cluster weak is refused by its reason.

Must never put a secret into an error, a warning or a repr.
"""

import math
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import click
from click.core import ParameterSource

from unibus.bus.cluster import REPLICAS
from unibus.daemon.addresses import is_loopback
from unibus.daemon.memory_files import read_file
from unibus.daemon.tls_files import RouteTlsFiles
from unibus.errors import StartRefused

PORT = 6250
ALONE = "unibus"
"""What a node is called that was given no name."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_LEAST_BITS = 128
_LEAST_LENGTH = 22
_LEAST_DISTINCT = 10
_SECRET = re.compile(r"[A-Za-z0-9][!-~]*")  # nats-server takes what begins with a dollar sign for a hash
_EXAMPLE = "nats://host:6250,nats://host:6250"
_MAKE_ONE = "make one with: openssl rand -hex 32"


@dataclass(frozen=True, slots=True)
class Typed:
    """A secret as click was given it; `on_command_line` is where all who list processes can read it."""

    text: str = field(repr=False)
    on_command_line: bool


@dataclass(frozen=True, slots=True)
class Given:
    """The flags about the cluster, as they were given; None for one that was not."""

    name: str | None = None
    bind: str | None = None
    routes: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None
    secret_file: Path | None = None
    secret: Typed | None = None

    def flags(self) -> Mapping[str, object]:
        """What was given, by the flag."""
        return {
            "--cluster-bind": self.bind,
            "--routes": self.routes,
            "--route-tls-cert": self.certificate,
            "--route-tls-key": self.key,
            "--route-tls-ca": self.authorities,
            "--cluster-pass-file": self.secret_file,
            "--cluster-pass": self.secret,
        }


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """A node's part in a cluster, checked. `peers` are host and port of the other nodes' routes.

    `warnings` are for the log: what was taken for compatibility, and what it risks.
    """

    name: str
    bind: tuple[str, int]
    peers: tuple[tuple[str, int], ...]
    secret: str = field(repr=False)
    tls: RouteTlsFiles | None
    warnings: tuple[str, ...] = ()


def read(given: Given, *, node: str, bus_auth: str, store: str, external: bool) -> ClusterOptions | None:
    """The node's part in a cluster, None if it has none. Reads the secret's file. Raises StartRefused."""
    if given.name is None:
        for flag, value in given.flags().items():
            # A secret in the environment may be meant for another of this user's programs.
            if value is not None and flag != "--cluster-pass":
                raise StartRefused(f"{flag} is for a cluster: name it with --cluster-name, the same on all nodes")
        return None
    if not _NAME.fullmatch(given.name):
        raise StartRefused(f"--cluster-name takes 1 to 63 of a-z 0-9 - and begins with a letter, not {given.name!r}")
    _refuse_weak(node=node, bus_auth=bus_auth, store=store, external=external)
    if given.routes is None:
        raise StartRefused(f"a node of a cluster needs --routes to the others, such as {_EXAMPLE}")
    host, port = parse_place(given.bind or f"0.0.0.0:{PORT}", "--cluster-bind")
    urls = [_url(text.strip()) for text in given.routes.split(",") if text.strip()]
    peers = tuple(dict.fromkeys((str(url.hostname), url.port or PORT) for url in urls))
    others = tuple(peer for peer in peers if not is_own(peer, (host, port)))
    if not others:
        raise StartRefused("--routes leads only to this node itself: name the others'")
    tls = _route_tls(given, [host, *(peer for peer, _ in others)])
    secret, warnings = _secret(given, urls)
    return ClusterOptions(given.name, (host, port), others, secret, tls, warnings)


def replicas(asked: int | None, *, store: str, clustered: bool) -> int:
    """On how many nodes records and messages are kept. Raises StartRefused."""
    if asked is None:
        return 3 if clustered else 1
    if store != "kv":
        raise StartRefused("--kv-replicas is for --store kv")
    if asked not in REPLICAS:
        raise StartRefused(
            f"--kv-replicas takes 1, 3 or 5, not {asked}: an even number outlives no more than the odd one below it"
        )
    if asked > 1 and not clustered:
        raise StartRefused(f"--kv-replicas {asked} needs {asked} nodes: name the cluster with --cluster-name")
    return asked


def public_url(text: str | None, *, clustered: bool) -> str | None:
    """Where clients reach this node. Raises StartRefused."""
    if text is None:
        return None
    if not clustered:
        raise StartRefused("--public-url is for a node of a cluster: clients of one node know where it is")
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise StartRefused(f"--public-url takes https://HOST:PORT, not {text!r}") from None
    named = url.scheme in {"http", "https"} and url.hostname and url.username is None and port != 0
    if not named or url.path.strip("/") or url.query or url.fragment:
        raise StartRefused(f"--public-url takes https://HOST:PORT, not {text!r}")
    return text.rstrip("/")


def is_strong(secret: str) -> bool:
    """Whether guessing `secret` is hopeless: 128 bits if each character is taken for a random one of its kind."""
    kinds = (string.digits, "0123456789abcdef", "0123456789ABCDEF", string.ascii_lowercase + string.digits)
    alphabet = next((len(kind) for kind in kinds if set(secret) <= set(kind)), 64)
    long_enough = len(secret) >= _LEAST_LENGTH and len(secret) * math.log2(alphabet) >= _LEAST_BITS
    return long_enough and len(set(secret)) >= min(_LEAST_DISTINCT, alphabet - 1)


def parse_place(text: str, flag: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; an IPv6 host stands in brackets. Raises StartRefused.

    A port is needed: one that changes with each start is no place for others to find.
    """
    try:
        url = urlsplit(f"//{text}")
        if url.hostname and url.port and url.username is None and not url.path:
            return url.hostname, url.port
    except ValueError:
        pass
    raise StartRefused(f"{flag} takes HOST:PORT, such as 10.0.0.1:{PORT}")


def is_own(place: tuple[str, int], bind: tuple[str, int]) -> bool:
    """Whether who binds `bind` is found at `place`, as far as the addresses tell.

    Each loopback address is a place of its own, unless all addresses are bound.
    """
    (host, port), (own, own_port) = place, bind
    any_address = own in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
    return port == own_port and (_literal(host) == _literal(own) or (any_address and is_loopback(host)))


def _literal(host: str) -> str:
    """One spelling for each address."""
    try:
        return str(ip_address(host))
    except ValueError:
        return "127.0.0.1" if host == "localhost" else host


def _refuse_weak(*, node: str, bus_auth: str, store: str, external: bool) -> None:
    if external:
        raise StartRefused("a cluster is of nodes with their own nats-server: leave --nats-url or --cluster-name out")
    if bus_auth != "enforce":
        raise StartRefused(
            f"a node with --bus-auth {bus_auth} would open the whole cluster: join it with --bus-auth enforce"
        )
    if store != "kv":
        raise StartRefused(f"--store {store} is of one node: use --store kv in a cluster, which all nodes share")
    if node == ALONE:
        raise StartRefused("a node of a cluster needs a name of its own: give it one with --node-name")


def _url(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        known = url.scheme in {"nats", "nats-route", "tls"} and url.hostname and url.port != 0
        if known and not (url.path.strip("/") or url.query or url.fragment):
            return url
    except ValueError:
        pass
    raise StartRefused(f"--routes takes {_EXAMPLE}, and no more than host and port in each")


def _route_tls(given: Given, hosts: Sequence[str]) -> RouteTlsFiles | None:
    match given.certificate, given.key, given.authorities:
        case Path() as certificate, Path() as key, Path() as authorities:
            return RouteTlsFiles(certificate, key, authorities)
        case None, None, None:
            pass
        case _:
            raise StartRefused("--route-tls-cert, --route-tls-key and --route-tls-ca go together: name all three")
    if abroad := next((host for host in hosts if not is_loopback(host)), None):
        raise StartRefused(
            f"routes over {abroad} need certificates at both ends: "
            "name --route-tls-cert, --route-tls-key and --route-tls-ca, or stay on 127.0.0.1"
        )
    return None


def _secret(given: Given, urls: Sequence[SplitResult]) -> tuple[str, tuple[str, ...]]:
    """The one secret that all that was given agrees on, and what to warn of."""
    found: list[str] = []
    warnings = []
    if given.secret_file is not None:
        try:
            found.append(read_file(given.secret_file, "--cluster-pass-file", private=True).decode("ascii").strip())
        except UnicodeDecodeError:
            raise StartRefused(f"--cluster-pass-file {given.secret_file} is not text: {_MAKE_ONE}") from None
    if given.secret is not None:
        found.append(given.secret.text)
        if given.secret.on_command_line:
            warnings.append("the cluster's secret is in --cluster-pass, where all users of this machine can read it")
    if inside := [unquote(url.password or url.username or "") for url in urls if url.username is not None]:
        found += inside
        warnings.append("the cluster's secret is in --routes, where it ends up in process lists and copied lines")
    if not found:
        raise StartRefused(f"a cluster needs a secret: name its file with --cluster-pass-file; {_MAKE_ONE}")
    if len(set(found)) > 1:
        raise StartRefused("the cluster's secret was given twice, and differs: name it with --cluster-pass-file alone")
    if not _SECRET.fullmatch(found[0]) or not is_strong(found[0]):
        raise StartRefused(f"the cluster's secret can be guessed, and would let anybody in as a node: {_MAKE_ONE}")
    return found[0], tuple(f"{warning}: use --cluster-pass-file, and change the secret" for warning in warnings)


def _typed(context: click.Context, parameter: click.Parameter, value: str | None) -> Typed | None:
    if value is None:
        return None
    source = context.get_parameter_source(parameter.name or "")
    return Typed(value, source is ParameterSource.COMMANDLINE)


_FILE = click.Path(path_type=Path)

FLAGS: tuple[Callable[..., object], ...] = (
    click.option(
        "--kv-replicas",
        type=int,
        show_default="3 in a cluster, else 1",
        help="how many nodes keep each record and message, from the first start on",
    ),
    click.option("--cluster-name", metavar="NAME", help="be a node of this cluster"),
    click.option(
        "--cluster-bind", metavar="HOST:PORT", show_default=f"0.0.0.0:{PORT}", help="where the other nodes connect"
    ),
    click.option("--routes", metavar="URLS", help=f"the other nodes, with commas between: {_EXAMPLE}"),
    click.option("--route-tls-cert", type=_FILE, help="this node's certificate for routes, in pem, with its chain"),
    click.option("--route-tls-key", type=_FILE, help="its private key, for your eyes only"),
    click.option("--route-tls-ca", type=_FILE, help="the authorities of route certificates, and of nothing else"),
    click.option("--public-url", metavar="URL", help="where clients reach this node; each node tells them of all"),
    click.option("--cluster-pass-file", type=_FILE, help="a file for your eyes only with the cluster's secret"),
    click.option(
        "--cluster-pass", metavar="SECRET", callback=_typed, help="the secret itself, for all users to read: avoid it"
    ),
)
