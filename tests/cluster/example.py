"""A cluster of three for the tests, on addresses that nobody has (RFC 5737, RFC 4193)."""

from pathlib import Path
from random import Random

from unibus.cluster.nodes import Cluster, parse

NOW = 1_800_000_000.0
ROOT = Path(__file__).parent.parent.parent
GOLDEN = Path(__file__).parent / "golden"
NAMES = ("magnus", "homer", "datardos")

NODES = """\
# three nodes
CLUSTER_NAME=example
HTTP_PORT=8470
NATS_PORT=4250
ROUTE_PORT=6250
KV_REPLICAS=3
NODE=magnus    192.0.2.1            10.9.0.1   root    /opt/unibus
NODE=homer     homer.example.org    fd00::9:2  deploy  /srv/unibus/node-2
NODE=datardos  2001:db8::3          10.9.0.3   root    /opt/unibus
"""


def example() -> Cluster:
    """The cluster that `NODES` describes."""
    return parse(NODES)


def random_bytes(seed: int = 1) -> "Bytes":
    """Bytes that are the same in every run, for what takes randomness as an argument."""
    return Bytes(seed)


class Bytes:
    """See `random_bytes`."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - the point is that it repeats

    def __call__(self, count: int) -> bytes:
        return self._random.randbytes(count)


def place(base: Path, nodes: str = NODES) -> Path:
    """A `deploy` directory with a `nodes.env` at `base`."""
    (base / "cluster").mkdir(parents=True)
    (base / "cluster" / "nodes.env").write_text(nodes)
    return base
