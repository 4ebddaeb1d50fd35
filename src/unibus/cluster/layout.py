"""Where everything of a cluster stands: on the operator's machine below one directory, and on a node below its path.

Names only. What is secret is said here once, and decides about modes everywhere.
"""

from dataclasses import dataclass
from typing import Literal

NODES = "cluster/nodes.env"
SECRETS = "cluster/secrets"
PASS = "cluster/secrets/cluster.pass"  # noqa: S105 - a file's name
BUNDLE = "cluster/build/bundle"
INSTALLER = "cluster/install-node"
UNIT = "cluster/membershipd-cluster.service"

Kind = Literal["route", "server"]
KINDS: tuple[Kind, ...] = ("route", "server")


@dataclass(frozen=True, slots=True)
class PairPlace:
    """The two files of a certificate and its key."""

    certificate: str
    key: str


ROUTE_AUTHORITY = PairPlace("cluster/secrets/route-ca.crt", "cluster/secrets/route-ca.key")
CLIENT_AUTHORITY = PairPlace("tls/ca.crt", "tls/ca.key")
AUTHORITIES: dict[Kind, PairPlace] = {"route": ROUTE_AUTHORITY, "server": CLIENT_AUTHORITY}


def pair(node: str, kind: Kind) -> PairPlace:
    """Where a node's certificate and key stand."""
    return PairPlace(f"cluster/out/{node}/{kind}.crt", f"cluster/out/{node}/{kind}.key")


def settings(node: str) -> str:
    """Where a node's `cluster.env` stands."""
    return f"cluster/out/{node}/cluster.env"


@dataclass(frozen=True, slots=True)
class Piece:
    """A file of a node: where it is made, and its name below the node's path. A secret is the service's own."""

    local: str
    remote: str
    secret: bool


def pieces(node: str) -> tuple[Piece, ...]:
    """What a node is given besides the bundle."""
    return (
        Piece(settings(node), "cluster.env", secret=False),
        Piece(PASS, "cluster.pass", secret=True),
        Piece(ROUTE_AUTHORITY.certificate, "tls/route-ca.crt", secret=False),
        *(Piece(pair(node, kind).certificate, f"tls/{kind}.crt", secret=False) for kind in KINDS),
        *(Piece(pair(node, kind).key, f"tls/{kind}.key", secret=True) for kind in KINDS),
    )
