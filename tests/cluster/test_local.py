"""A cluster on one machine: what each node is told, and that what was made is kept."""

from pathlib import Path

import click
import pytest

from tests.cluster.example import NOW, random_bytes
from unibus.cluster import layout
from unibus.cluster.certificates import hosts_of, public
from unibus.cluster.local import LocalNode, environment, lay_out, prepare
from unibus.daemon.options import flags
from unibus.errors import InvalidInput, KeyCustody

NODES = lay_out(3, 20000)


def test_nodes_have_ports_of_their_own_on_loopback() -> None:
    assert [node.url for node in NODES] == [f"https://127.0.0.1:{port}" for port in (20000, 20010, 20020)]
    ports = [port for node in NODES for port in (node.http_port, node.nats_port, node.route_port)]
    assert len(set(ports)) == 9


@pytest.mark.parametrize(("count", "port"), [(2, 20000), (10, 20000), (3, 0), (3, 65530)])
def test_what_cannot_be_laid_out_is_refused(count: int, port: int) -> None:
    with pytest.raises(InvalidInput):
        lay_out(count, port)


def test_a_node_is_told_what_the_daemon_reads_and_no_secret(tmp_path: Path) -> None:
    @click.command(context_settings={"auto_envvar_prefix": "UNIBUS"})
    @flags
    def daemon() -> None: ...

    prepare(tmp_path, NODES, now=NOW, random=random_bytes())
    known = {f"UNIBUS_{parameter.name}".upper() for parameter in daemon.params}
    told = environment(tmp_path, NODES, NODES[0])
    assert told.keys() <= known
    assert told["UNIBUS_BUS_AUTH"] == "enforce"
    assert told["UNIBUS_ROUTES"] == "nats://127.0.0.1:20012,nats://127.0.0.1:20022"
    secret = (tmp_path / layout.PASS).read_text().strip()
    assert not any(secret in value for value in told.values())


def test_two_authorities_and_a_certificate_for_each_plane_of_each_node(tmp_path: Path) -> None:
    prepare(tmp_path, NODES, now=NOW, random=random_bytes())
    roots = [(tmp_path / place.certificate).read_bytes() for place in layout.AUTHORITIES.values()]
    assert len({public(root) for root in roots}) == 2
    for node in NODES:
        for kind in layout.KINDS:
            place = layout.pair(node.name, kind)
            assert hosts_of((tmp_path / place.certificate).read_bytes()) == {"localhost", "127.0.0.1", node.name}
            assert (tmp_path / place.key).stat().st_mode & 0o077 == 0


def test_what_is_there_stays(tmp_path: Path) -> None:
    prepare(tmp_path, NODES, now=NOW, random=random_bytes())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    prepare(tmp_path, NODES, now=NOW + 86_400, random=random_bytes(2))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_cluster_of_more_nodes_is_not_taken_for_one_of_fewer(tmp_path: Path) -> None:
    (tmp_path / "n5").mkdir()
    with pytest.raises(InvalidInput, match="n5"):
        prepare(tmp_path, NODES, now=NOW, random=random_bytes())


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    prepare(tmp_path, NODES, now=NOW, random=random_bytes())
    (tmp_path / layout.PASS).chmod(0o644)
    with pytest.raises(KeyCustody, match=r"cluster\.pass"):
        prepare(tmp_path, NODES, now=NOW, random=random_bytes())


def test_a_path_with_blanks_is_quoted_for_a_shell(tmp_path: Path) -> None:
    base = tmp_path / "a directory"
    base.mkdir()
    prepare(base, [LocalNode("n1", 1, 2, 3), *NODES[1:]], now=NOW, random=random_bytes())
    assert f"export UNIBUS_DATA_DIR='{base / 'n1'}'\n" in (base / layout.settings("n1")).read_text()
