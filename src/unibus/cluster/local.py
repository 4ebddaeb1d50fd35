"""A whole cluster on one machine, for trying it: which nodes it has, where they listen, what each is told.

Pure but for `prepare`, which makes the same material as for a cluster on many hosts. Must never open a node to others
than this machine, nor weaken one: it is the real thing, on small ports.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path, PurePosixPath

from unibus.cluster import certs, layout, settings
from unibus.cluster.certificates import Random
from unibus.cluster.material import found_files
from unibus.cluster.nodes import MOST_NODES, Cluster, ClusterNode
from unibus.cluster.staging import NewFile, holding, read, read_secret, write
from unibus.errors import InvalidInput

NAME = "local"
LEAST_NODES = 3
APART = 10
"""Between the ports of a node and the same ones of the next."""
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class LocalNode:
    """One node and where it listens: `http_port` and `nats_port` for clients, `route_port` for the other nodes."""

    name: str
    http_port: int
    nats_port: int
    route_port: int
    host: str = LOOPBACK

    @property
    def url(self) -> str:
        """Where its control plane is."""
        return f"https://{self.host}:{self.http_port}"


def lay_out(count: int, base_port: int) -> tuple[LocalNode, ...]:
    """`count` nodes: n1 has `base_port` and the two after it, n2 those ten further, and so on. Raises InvalidInput."""
    if not LEAST_NODES <= count <= MOST_NODES:
        raise InvalidInput(f"a cluster has {LEAST_NODES} to {MOST_NODES} nodes, not {count}")
    if not 0 < base_port <= 65535 - APART * count:
        raise InvalidInput(f"--base-port takes 1 to {65535 - APART * count}, not {base_port}")
    firsts = range(base_port, base_port + count * APART, APART)
    return tuple(LocalNode(f"n{number}", port, port + 1, port + 2) for number, port in enumerate(firsts, 1))


def authority(base: Path) -> Path:
    """What clients of a cluster in `base` are told to trust."""
    return base / layout.CLIENT_AUTHORITY.certificate


def data_dir(base: Path, node: LocalNode) -> Path:
    """Where a node keeps its data."""
    return base / node.name


def environment(base: Path, nodes: Sequence[LocalNode], node: LocalNode) -> Mapping[str, str]:
    """What `node` is told, as the variables that the daemon's flags read. Holds no secret, only where it is."""
    route, server = layout.pair(node.name, "route"), layout.pair(node.name, "server")
    values = {
        "NODE_NAME": node.name,
        "CLUSTER_NAME": NAME,
        "DATA_DIR": data_dir(base, node),
        "HTTP_BIND": f"{node.host}:{node.http_port}",
        "NATS_BIND": f"{node.host}:{node.nats_port}",
        "PUBLIC_URL": node.url,
        "BUS_AUTH": "enforce",
        "STORE": "kv",
        "CLUSTER_BIND": f"{node.host}:{node.route_port}",
        "ROUTES": ",".join(f"nats://{other.host}:{other.route_port}" for other in nodes if other != node),
        "CLUSTER_PASS_FILE": base / layout.PASS,
        "ROUTE_TLS_CERT": base / route.certificate,
        "ROUTE_TLS_KEY": base / route.key,
        "ROUTE_TLS_CA": base / layout.ROUTE_AUTHORITY.certificate,
        "TLS_CERT": base / server.certificate,
        "TLS_KEY": base / server.key,
    }
    return {f"UNIBUS_{name}": str(value) for name, value in values.items()}


def prepare(base: Path, nodes: Sequence[LocalNode], *, now: float, random: Random) -> None:
    """Make what is missing in `base`: authorities, certificates, the secret, each node's settings.

    `now` is in Unix seconds. Raises InvalidInput for what does not fit, KeyCustody, OSError.
    """
    left_out = sorted(path.name for path in base.glob("n[0-9]") if path.name not in {node.name for node in nodes})
    if left_out:
        raise InvalidInput(f"{base} also holds {', '.join(left_out)}: name as many --nodes as it was made with")
    cluster = _cluster(nodes)
    with holding(base, base / layout.SECRETS):
        files = certs.make(cluster, found_files(base, cluster), certs.How.KEEP, now, random)
        if read_secret(base / layout.PASS) is None:
            files[layout.PASS] = NewFile(settings.new_secret(random), secret=True)
        for node in nodes:
            values = environment(base, nodes, node)
            content = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items()).encode()
            if read(base / layout.settings(node.name)) != content:
                files[layout.settings(node.name)] = NewFile(content, secret=False)
        write(base, base / layout.SECRETS, files)


def _cluster(nodes: Sequence[LocalNode]) -> Cluster:
    """The nodes as the generators know them; the ports, which there are the same on all, are not theirs to know."""
    hosts = [ClusterNode(node.name, "localhost", ip_address(node.host), "", PurePosixPath("/")) for node in nodes]
    return Cluster(NAME, 0, 0, 0, LEAST_NODES, tuple(hosts), ())
