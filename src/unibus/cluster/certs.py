"""Which certificates of a cluster are made, renewed or kept, and how the ones that are there stand. Pure.

Must never replace what is there unless it was asked for, nor ever the client authority: users trust it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from unibus.cluster import certificates as x
from unibus.cluster.layout import AUTHORITIES, CLIENT_AUTHORITY, KINDS, ROUTE_AUTHORITY, Kind, PairPlace, pair
from unibus.cluster.nodes import Cluster, ClusterNode, Ip
from unibus.cluster.staging import NewFile
from unibus.errors import InvalidInput

ENDS_SOON = 45 * 86_400
"""Seconds before its end at which a certificate is called so."""
_MAKERS = {"route": x.route, "server": x.server}

Found = Mapping[str, bytes]
"""The files that are there, by the names of `layout`."""


class How(StrEnum):
    """What is done about certificates that are there already."""

    KEEP = "keep"
    RENEW = "renew"
    FORCE = "force"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what, its end in Unix seconds (None: there is none), and what is amiss, or ""."""

    what: str
    ends: int | None
    trouble: str


def places(cluster: Cluster) -> Iterator[PairPlace]:
    """Everything that `make` looks at and may make."""
    yield from (CLIENT_AUTHORITY, ROUTE_AUTHORITY)
    yield from (pair(node.name, kind) for node in cluster.nodes for kind in KINDS)


def make(cluster: Cluster, found: Found, how: How, now: float, random: x.Random) -> dict[str, NewFile]:
    """The files that are to be written, `now` being in Unix seconds. Raises InvalidInput for what cannot be kept so."""
    made: dict[str, NewFile] = {}
    client = _authority(f"{cluster.name} client authority", CLIENT_AUTHORITY, found, made, now, random)
    known = {} if how is How.FORCE else found
    route = _authority(f"{cluster.name} route authority", ROUTE_AUTHORITY, known, made, now, random)
    if x.public(client.certificate) == x.public(route.certificate):
        raise InvalidInput(
            f"{ROUTE_AUTHORITY.certificate} has the key of {CLIENT_AUTHORITY.certificate}: whoever has a client's "
            "certificate could join as a node; --force makes a route authority of its own"
        )
    authorities = {"route": route, "server": client}
    for node in cluster.nodes:
        for kind in KINDS:
            place, by = pair(node.name, kind), authorities[kind]
            key = _key(place, known, how)
            if how is How.KEEP and key is not None:
                if trouble := _trouble(node, kind, place, {**found, **_contents(made)}, now):
                    raise InvalidInput(f"{place.certificate} {trouble}: --renew makes it anew, with its key")
                continue
            made |= _files(place, _MAKERS[kind](node.name, hosts(node), key or x.new_key(random), by, now, random))
    return {name: file for name, file in made.items() if found.get(name) != file.content}


def hosts(node: ClusterNode) -> list[Ip | str]:
    """What a node's certificates name."""
    return [node.public, node.wireguard, node.name]


def table(cluster: Cluster, found: Found, now: float) -> list[Row]:
    """How everything stands at `now` (Unix seconds), and that the two authorities differ by their keys."""
    troubles = {place.certificate: _authority_trouble(place, found, now) for place in AUTHORITIES.values()}
    for node in cluster.nodes:
        for kind in KINDS:
            place = pair(node.name, kind)
            troubles[place.certificate] = _trouble(node, kind, place, found, now)
    rows = [_row(what, trouble, found, now) for what, trouble in troubles.items()]
    roots = [x.public(found[place.certificate]) for place in AUTHORITIES.values() if place.certificate in found]
    apart = "not both are there" if len(roots) < 2 else "" if len(set(roots)) == 2 else "both have one key"
    return [*rows, Row("two different roots", None, apart)]


def _authority(
    name: str, place: PairPlace, found: Found, made: dict[str, NewFile], now: float, random: x.Random
) -> x.Made:
    if place.certificate not in found and place.key not in found:
        new = x.authority(name, x.new_key(random), now, random)
        made |= _files(place, new)
        return new
    if trouble := _authority_trouble(place, found, now):
        raise InvalidInput(f"{place.certificate} {trouble}: put the right pair there, or move it away for a new one")
    return x.Made(found[place.certificate], found[place.key])


def _authority_trouble(place: PairPlace, found: Found, now: float) -> str:
    for name in (place.certificate, place.key):
        if name not in found:
            return "is missing" if name == place.certificate else f"has no {place.key} beside it"
    if not x.is_authority(found[place.certificate]):
        return "may not sign certificates"
    if not x.fits(found[place.certificate], found[place.key]):
        return f"does not belong to {place.key}"
    return "has expired" if x.ends(found[place.certificate]) <= now else ""


def _key(place: PairPlace, known: Found, how: How) -> bytes | None:
    """The key that stays, if any."""
    if place.certificate in known and place.key not in known:
        raise InvalidInput(f"{place.certificate} has no {place.key} beside it: put it back, or --force makes all anew")
    if place.key in known and place.certificate not in known and how is How.KEEP:
        raise InvalidInput(f"{place.key} has no {place.certificate} beside it: --renew makes one for it")
    return known.get(place.key)


def _trouble(node: ClusterNode, kind: Kind, place: PairPlace, found: Found, now: float) -> str:
    certificate, key = found.get(place.certificate), found.get(place.key)
    issuer = found.get(AUTHORITIES[kind].certificate)
    if certificate is None:
        return "is missing"
    if key is None or not x.fits(certificate, key):
        return f"does not belong to {place.key}"
    if issuer is None or not x.signed_by(certificate, issuer):
        return f"is not signed by {AUTHORITIES[kind].certificate}"
    if lost := sorted({str(host) for host in hosts(node)} - x.hosts_of(certificate)):
        return f"does not name {', '.join(lost)}"
    return "has expired" if x.ends(certificate) <= now else ""


def _row(what: str, trouble: str, found: Found, now: float) -> Row:
    ends = x.ends(found[what]) if what in found else None
    if not trouble and ends is not None and ends - now < ENDS_SOON:
        trouble = "ends soon: renew it"
    return Row(what, ends, trouble)


def _files(place: PairPlace, made: x.Made) -> dict[str, NewFile]:
    return {
        place.certificate: NewFile(made.certificate, secret=False),
        place.key: NewFile(made.key, secret=True),
    }


def _contents(made: Mapping[str, NewFile]) -> Found:
    return {name: file.content for name, file in made.items()}
