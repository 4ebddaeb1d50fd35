"""`cluster.env`, as it is known to be good, and as the daemon reads it."""

import click
import pytest

from tests.cluster.example import GOLDEN, NAMES, ROOT, example, random_bytes
from unibus.cluster.layout import UNIT
from unibus.cluster.settings import new_secret, render, unit_for
from unibus.daemon.options import flags


@pytest.mark.parametrize("name", NAMES)
def test_every_node_gets_what_is_known_to_be_good(name: str) -> None:
    cluster = example()
    (node,) = (node for node in cluster.nodes if node.name == name)
    assert render(cluster, node) == (GOLDEN / f"{name}.env").read_text()


def test_every_variable_is_one_that_the_daemon_reads() -> None:
    @click.command(context_settings={"auto_envvar_prefix": "UNIBUS"})
    @flags
    def daemon() -> None: ...

    known = {f"UNIBUS_{parameter.name}".upper() for parameter in daemon.params}
    cluster = example()
    lines = render(cluster, cluster.nodes[0]).splitlines()[1:]
    assert {line.partition("=")[0] for line in lines} - known == set()


def test_no_route_carries_a_credential_and_no_node_dials_itself() -> None:
    cluster = example()
    for node in cluster.nodes:
        values = dict(line.split("=", 1) for line in render(cluster, node).splitlines()[1:])
        routes = values["UNIBUS_ROUTES"].split(",")
        assert len(routes) == 2
        assert not any("@" in route for route in routes)
        assert values["UNIBUS_CLUSTER_BIND"] not in {route.removeprefix("nats://") for route in routes}


def test_a_secret_has_256_bits_and_is_never_the_same() -> None:
    one, two = new_secret(random_bytes(1)), new_secret(random_bytes(2))
    assert one != two
    assert len(bytes.fromhex(one.decode())) == 32


def test_the_unit_is_the_same_everywhere_but_for_the_path() -> None:
    magnus, homer, datardos = example().nodes
    shipped = (ROOT / "deploy" / UNIT).read_text()
    assert unit_for(magnus, shipped) == unit_for(datardos, shipped) == shipped
    assert "EnvironmentFile=/srv/unibus/node-2/cluster.env\n" in unit_for(homer, shipped)
    assert "/opt/unibus" not in unit_for(homer, shipped)
