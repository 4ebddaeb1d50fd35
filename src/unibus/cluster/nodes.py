"""`nodes.env`: which nodes a cluster has, read strictly. All else in this package is made from what stands there.

Pure: text in, a checked cluster or every mistake at once out. Names, users and paths end up in commands on other hosts,
so nothing may pass here that a shell, ssh or rsync would take for anything but a name. Must never guess a value.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import PurePosixPath

from unibus.errors import InvalidInput

Ip = IPv4Address | IPv6Address

MOST_NODES = 9
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOST = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PATH = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9._-]*){2,}")
_SYSTEM = frozenset({"bin", "boot", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "tmp", "usr"})
_PLACEHOLDER = re.compile(r"<[^<>\s]*>")
_PORTS = {"HTTP_PORT": 8470, "NATS_PORT": 4250, "ROUTE_PORT": 6250}
_SINGLE = frozenset({"CLUSTER_NAME", "KV_REPLICAS", *_PORTS})
_COLUMNS = ("name", "public address", "wireguard address", "user", "path")


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """One row: `public` is an address or a host name; `user` is who logs in there by ssh; unibus lives in `path`."""

    name: str
    public: Ip | str
    wireguard: Ip
    user: str
    path: PurePosixPath


@dataclass(frozen=True, slots=True)
class Cluster:
    """A checked `nodes.env`. `warnings` are for a person to read; nothing in it stops a tool."""

    name: str
    http_port: int
    nats_port: int
    route_port: int
    replicas: int
    nodes: tuple[ClusterNode, ...]
    warnings: tuple[str, ...]

    @property
    def majority(self) -> int:
        """How many nodes have to agree."""
        return len(self.nodes) // 2 + 1

    def others(self, name: str) -> tuple[ClusterNode, ...]:
        """All nodes but one."""
        return tuple(node for node in self.nodes if node.name != name)


def bracketed(host: Ip | str) -> str:
    """`host` as it stands before a port: an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]" if isinstance(host, IPv6Address) else str(host)


def parse(text: str) -> Cluster:
    """The cluster that `text` describes. Raises InvalidInput, which names every placeholder or else every mistake."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if placeholders := dict.fromkeys(found for _, line in lines for found in _PLACEHOLDER.findall(line)):
        raise InvalidInput(f"put the real values in place of {', '.join(placeholders)}")
    given, rows, wrong = _split(lines)
    ports = {key: _port(given.get(key, str(usual)), key, wrong) for key, usual in _PORTS.items()}
    nodes = [node for number, row in rows if (node := _row(number, row, wrong)) is not None]
    name = given.get("CLUSTER_NAME", "")
    if not _NAME.fullmatch(name):
        wrong.append(f"CLUSTER_NAME takes 1 to 63 of a-z 0-9 - and begins with a letter, not {name!r}")
    if not rows:
        wrong.append("there is no NODE row")
    elif len(rows) > MOST_NODES:
        wrong.append(f"a cluster has at most {MOST_NODES} nodes, not {len(rows)}")
    if len(set(ports.values())) < len(ports):
        wrong.append("HTTP_PORT, NATS_PORT and ROUTE_PORT have to differ")
    wrong += _twice(nodes)
    text_replicas = given.get("KV_REPLICAS", "1" if len(rows) < 3 else "3")
    if text_replicas not in {"1", "3", "5"} or int(text_replicas) > max(len(rows), 1):
        wrong.append(f"KV_REPLICAS takes 1, 3 or 5, and no more than there are nodes, not {text_replicas!r}")
    if wrong:
        raise InvalidInput("; ".join(wrong))
    return Cluster(
        name,
        ports["HTTP_PORT"],
        ports["NATS_PORT"],
        ports["ROUTE_PORT"],
        int(text_replicas),
        tuple(nodes),
        tuple(_warnings(nodes, int(text_replicas))),
    )


def _split(lines: list[tuple[int, str]]) -> tuple[Mapping[str, str], list[tuple[int, str]], list[str]]:
    given: dict[str, str] = {}
    rows: list[tuple[int, str]] = []
    wrong: list[str] = []
    for number, line in lines:
        key, equals, value = line.partition("=")
        if equals and key == "NODE":
            rows.append((number, value))
        elif not equals or key not in _SINGLE:
            wrong.append(f"line {number}: {key!r} is not known: NODE, {', '.join(sorted(_SINGLE))} are")
        elif key in given:
            wrong.append(f"line {number}: {key} stands there twice")
        else:
            given[key] = value
    return given, rows, wrong


def _port(text: str, key: str, wrong: list[str]) -> int:
    if text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65536:
        return int(text)
    wrong.append(f"{key} takes a port from 1 to 65535, not {text!r}")
    return 0


def _row(number: int, row: str, wrong: list[str]) -> ClusterNode | None:
    cells = row.split()
    if len(cells) != len(_COLUMNS):
        wrong.append(f"line {number}: a NODE row has {', '.join(_COLUMNS)}, not {len(cells)} values")
        return None
    name, public, wireguard, user, path = cells
    mistakes = [
        f"line {number}: {value!r} is no {what}"
        for what, value, good in (
            ("name (1 to 63 of a-z 0-9 -, a letter first)", name, _NAME.fullmatch(name)),
            ("IP address or host name", public, _address(public) or _HOST.fullmatch(public)),
            ("IP address", wireguard, _address(wireguard)),
            ("user", user, _USER.fullmatch(user)),
            ("path of unibus's own, such as /opt/unibus", path, _own_path(path)),
        )
        if not good
    ]
    wrong += mistakes
    if mistakes:
        return None
    return ClusterNode(name, _address(public) or public, ip_address(wireguard), user, PurePosixPath(path))


def _address(text: str) -> Ip | None:
    """An address that one host can have and others can dial."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    scoped = isinstance(found, IPv6Address) and found.scope_id is not None
    return None if found.is_unspecified or found.is_multicast or found.is_reserved or scoped else found


def _own_path(path: str) -> bool:
    return bool(_PATH.fullmatch(path)) and path.split("/")[1] not in _SYSTEM


def _twice(nodes: list[ClusterNode]) -> Iterator[str]:
    names = Counter(node.name for node in nodes)
    addresses = Counter(str(address) for node in nodes for address in (node.public, node.wireguard))
    yield from (f"the name {name} stands there {count} times" for name, count in names.items() if count > 1)
    yield from (f"the address {it} stands there {count} times" for it, count in addresses.items() if count > 1)


def _warnings(nodes: list[ClusterNode], replicas: int) -> Iterator[str]:
    count = len(nodes)
    if count % 2 == 0:
        yield f"{count} nodes outlive the loss of no more than {count - 1} do: add one or leave one out"
    if replicas < 3:
        yield f"with KV_REPLICAS={replicas} the loss of one node can lose or stop the bus"
    for node in nodes:
        if node.wireguard.is_loopback:
            yield f"{node.name}: {node.wireguard} is a loopback address: good for a trial on one host only"
        elif node.wireguard.is_global:
            yield f"{node.name}: {node.wireguard} is a public address: routes belong on the wireguard mesh"
