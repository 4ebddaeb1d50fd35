"""`unibus cluster`, as an operator types it, and the scripts that do the same; nothing here reaches another host."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import UNIBUS, Person
from tests.cluster.example import NAMES, NODES, ROOT, place
from unibus.cluster.layout import pieces

MADE = {piece.local for name in NAMES for piece in pieces(name)}
LOOPBACK = "".join(f"NODE=n{n} 127.0.1.{n} 127.0.2.{n} root /opt/unibus\n" for n in range(1, 4))


@pytest.fixture
def operator(tmp_path: Path) -> Person:
    person = Person(tmp_path / "home")
    place(person.home / "deploy")
    return person


def test_every_tool_refuses_the_shipped_file_and_names_each_placeholder(operator: Person) -> None:
    shutil.copy(ROOT / "deploy/cluster/nodes.env", operator.home / "deploy/cluster/nodes.env")
    for command in (["nodes"], ["certs"], ["certs", "--check"], ["env"], ["deploy"], ["deploy", "--yes"], ["roll"]):
        said = operator.refused("cluster", *command)
        placeholders = ("<MAGNUS_PUBLIC_ADDRESS>", *(f"<{name.upper()}_WIREGUARD_ADDRESS>" for name in NAMES))
        assert all(name in said for name in placeholders)
    assert [path.name for path in (operator.home / "deploy/cluster").iterdir()] == ["nodes.env"]


def test_a_file_that_is_not_there_is_named(operator: Person) -> None:
    assert "cannot read elsewhere/cluster/nodes.env" in operator.refused("cluster", "--dir", "elsewhere", "nodes")


def test_the_nodes_are_shown(operator: Person) -> None:
    assert operator.does("cluster", "nodes").splitlines()[1].split() == [
        *("magnus", "192.0.2.1", "10.9.0.1", "root", "/opt/unibus")
    ]
    told = operator.values("cluster", "nodes")[0]
    assert (told["cluster"], told["http"], told["replicas"], told["nodes"][1]["wireguard"]) == (
        *("example", 8470, 3),
        "fd00::9:2",
    )


def test_warnings_go_beside_the_result(operator: Person) -> None:
    (operator.home / "deploy/cluster/nodes.env").write_text(NODES.replace("KV_REPLICAS=3", "KV_REPLICAS=1"))
    ran = operator.run("cluster", "env")
    assert ran.status == 0
    assert ran.err.startswith("warning: with KV_REPLICAS=1 ")


def test_material_is_made_once_checked_and_renewed(operator: Person) -> None:
    deploy = operator.home / "deploy"
    amiss = operator.run("cluster", "certs", "--check")
    assert amiss.status == 1
    assert "is missing" in amiss.out
    assert amiss.out.endswith(" not both are there\n")
    assert not (deploy / "tls").exists()
    assert len(operator.values("cluster", "certs")[0]["written"]) == 16
    assert len(operator.values("cluster", "env")[0]["written"]) == 4
    assert all((deploy / name).exists() for name in MADE)
    secret = [deploy / piece.local for name in NAMES for piece in pieces(name) if piece.secret]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}

    before = {name: (deploy / name).read_bytes() for name in MADE}
    assert operator.does("cluster", "certs") == operator.does("cluster", "env") == "all is there; nothing to do\n"
    assert {name: (deploy / name).read_bytes() for name in MADE} == before

    table = operator.does("cluster", "certs", "--check").splitlines()
    assert len(table) == 10
    assert all(line.endswith(" ok") for line in table[1:])
    assert table[-1].startswith("two different roots ")

    assert len(operator.values("cluster", "certs", "--renew")[0]["written"]) == 6
    assert operator.values("cluster", "env", "--new-secret")[0]["written"] == ["deploy/cluster/secrets/cluster.pass"]
    assert (deploy / "cluster/secrets/cluster.pass").read_bytes() != before["cluster/secrets/cluster.pass"]


def test_no_output_shows_a_secret(operator: Person) -> None:
    said = "".join(
        operator.does(*flag, "cluster", *command)
        for command in (["certs"], ["env"], ["certs", "--check"], ["nodes"])
        for flag in ([], ["--json"])
    )
    assert (operator.home / "deploy/cluster/secrets/cluster.pass").read_text().strip() not in said
    assert "PRIVATE" not in said


def test_what_excludes_each_other_is_wrong_usage(operator: Person) -> None:
    assert "exclude each other" in operator.refused("cluster", "certs", "--renew", "--force", status=2)
    assert "no node nobody" in operator.refused("cluster", "deploy", "--node", "nobody", status=2)


def test_a_roll_without_hosts_goes_nowhere(operator: Person) -> None:
    (operator.home / "deploy/cluster/nodes.env").write_text("CLUSTER_NAME=trial\n" + LOOPBACK)
    config = operator.write("ssh_config", "Host *\n  ProxyCommand false\n")
    said = operator.refused("cluster", "roll", "--yes", "--ssh-config", str(config))
    assert all(f"n{n}: ssh did not succeed" in said for n in range(1, 4))


def test_the_scripts_use_the_directory_that_they_stand_in(operator: Person, tmp_path: Path) -> None:
    checkout = tmp_path / "a checkout"
    place(checkout / "deploy")
    for name in ("generate-cluster-certs", "generate-cluster-env", "deploy-cluster"):
        shutil.copy(ROOT / "deploy/cluster" / name, checkout / "deploy/cluster" / name)

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [f"{checkout}/deploy/cluster/{name}", *arguments]
        return subprocess.run(
            command, cwd=operator.home, env=operator.environment, capture_output=True, text=True, check=False
        )

    missing = run("generate-cluster-certs")
    assert missing.returncode == 1
    assert "there is no environment in the checkout yet" in missing.stderr
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/unibus").symlink_to(UNIBUS)
    assert run("generate-cluster-certs").returncode == run("generate-cluster-env").returncode == 0
    assert all((checkout / "deploy" / name).exists() for name in MADE)
    assert run("generate-cluster-certs", "--check").returncode == 0
    assert "Usage: unibus cluster deploy" in run("deploy-cluster", "--help").stdout
