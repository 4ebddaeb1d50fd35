"""`cluster.env`: what one node of a cluster is told, as the variables that the daemon's flags read; and the secret.

Pure: a checked cluster in, text out. Must never hold a secret, nor a credential inside a route: it is readable by all.
"""

from ipaddress import IPv6Address

from unibus.cluster.certificates import Random
from unibus.cluster.nodes import Cluster, ClusterNode, bracketed

SECRET_BYTES = 32


def new_secret(random: Random) -> bytes:
    """The secret that nodes show each other, 256 bits in hexadecimal, as a file's content."""
    return random(SECRET_BYTES).hex().encode() + b"\n"


def render(cluster: Cluster, node: ClusterNode) -> str:
    """`cluster.env` for one of the cluster's nodes, for systemd's EnvironmentFile= (systemd.exec(5))."""
    any_host = "[::]" if IPv6Address in {type(node.public), type(node.wireguard)} else "0.0.0.0"  # noqa: S104 - both planes are public
    routes = (f"nats://{bracketed(other.wireguard)}:{cluster.route_port}" for other in cluster.others(node.name))
    values = {
        "NODE_NAME": node.name,
        "CLUSTER_NAME": cluster.name,
        "HTTP_BIND": f"{any_host}:{cluster.http_port}",
        "NATS_BIND": f"{any_host}:{cluster.nats_port}",
        "PUBLIC_URL": f"https://{bracketed(node.public)}:{cluster.http_port}",
        "BUS_AUTH": "enforce",
        "STORE": "kv",
        "KV_REPLICAS": cluster.replicas,
        "CLUSTER_BIND": f"{bracketed(node.wireguard)}:{cluster.route_port}",
        "ROUTES": ",".join(routes),
        "CLUSTER_PASS_FILE": node.path / "cluster.pass",
        "ROUTE_TLS_CERT": node.path / "tls/route.crt",
        "ROUTE_TLS_KEY": node.path / "tls/route.key",
        "ROUTE_TLS_CA": node.path / "tls/route-ca.crt",
        "TLS_CERT": node.path / "tls/server.crt",
        "TLS_KEY": node.path / "tls/server.key",
    }
    head = f"# {node.name} of cluster {cluster.name}: made by generate-cluster-env from nodes.env; change it there\n"
    return head + "".join(f"UNIBUS_{name}={value}\n" for name, value in values.items())


def unit_for(node: ClusterNode, unit: str) -> str:
    """The shipped unit, for a node that lives at another path than the usual one."""
    return unit.replace("/opt/unibus", str(node.path))
