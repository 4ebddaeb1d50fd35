"""The runbook from beginning to end: every command of it, as it stands there, towards hosts of the test's own.

The hosts have the addresses that `nodes.env` is shipped with. Each test is a section of the runbook and goes on where
the one before has ended; each ends by comparing what was typed with what the section says.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.checkout import ROOT, Operator, build_bundle, commit
from tests.cluster.hosts import Hosts, Place
from tests.cluster.runbook import commands
from tests.support.user_manager import until

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]

RUNBOOK = commands((ROOT / "deploy/cluster/README.md").read_text())
PLACES = {
    "magnus": Place("192.0.2.7", "10.9.0.1"),
    "homer": Place("141.94.69.66", "10.9.0.2"),
    "datardos": Place("51.91.100.142", "10.9.0.3"),
    "new-homer": Place("203.0.113.9", "10.9.0.4"),
}
ON = "root@51.91.100.142"


class Typist:
    """Types commands that a section of the runbook holds, and none else."""

    def __init__(self, operator: Operator, section: str) -> None:
        self.operator, self.left = operator, list(RUNBOOK[section])

    def __call__(self, command: str, status: int = 0, **instead: str) -> str:
        """Type the command with a person's own words in place of the runbook's; what it said."""
        self.left.remove(command)
        for word, own in instead.items():
            command = command.replace(word.replace("_", "-"), own)
        name, is_setting, value = command.removeprefix("export ").partition("=")
        if is_setting and command.startswith("export "):
            self.operator.settings[name] = value.replace("$PWD", str(self.operator.checkout))
            return ""
        outcome = self.operator.types(command)
        assert outcome.returncode == status, f"{command}: {outcome.stdout}{outcome.stderr}"
        return outcome.stdout + outcome.stderr

    def on_each(self, command: str, *hosts: str) -> None:
        """Type a command of ssh's for each of the hosts."""
        self.left.remove(command)
        for host in hosts:
            self.operator.does(command.replace(ON, f"root@{PLACES[host].public}"))


@pytest.fixture(scope="module")
def operator(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    home = tmp_path_factory.mktemp("operator")
    with Hosts(home / "hosts", PLACES) as hosts:
        yield Operator(home, source / "origin", source / "bundle", hosts)


@contextmanager
def section(operator: Operator, title: str) -> Iterator[Typist]:
    """Go through one section; all of it has to be typed."""
    typist = Typist(operator, title)
    yield typist
    assert typist.left == []


def replaced(operator: Operator, placeholder: str, value: str) -> None:
    nodes = operator.base / "cluster" / "nodes.env"
    nodes.write_text(nodes.read_text().replace(placeholder, value))


def ports(operator: Operator, name: str, port: int) -> set[str]:
    """The connections of a host to or from that port, by both their ends."""
    where = f"'( sport = :{port} or dport = :{port} )'"
    lines = operator.hosts.on(name, f"ss -H -n -t state established {where}").splitlines()
    return {" ".join(sorted(line.split()[2:4])) for line in lines}


def serial(operator: Operator, name: str) -> str:
    """The number of the certificate that a node's control plane shows."""
    dial = f"openssl s_client -connect {PLACES[name].public}:8470 </dev/null 2>/dev/null"
    return operator.does(f"{dial} | openssl x509 -noout -serial").stdout


def test_before(operator: Operator) -> None:
    with section(operator, "Before") as types:
        refused = operator.refused(".venv/bin/unibus cluster nodes")
        assert len(re.findall(r"<[A-Z_]+>", refused)) == 4
        replaced(operator, "<MAGNUS_PUBLIC_ADDRESS>", PLACES["magnus"].public)
        for name in ("magnus", "homer", "datardos"):
            replaced(operator, f"<{name.upper()}_WIREGUARD_ADDRESS>", PLACES[name].wireguard)
        types("make .venv/.installed")
        assert PLACES["datardos"].wireguard in types(".venv/bin/unibus cluster nodes")


def test_make_the_material(operator: Operator) -> None:
    with section(operator, "Make the material") as types:
        types("deploy/cluster/generate-cluster-certs")
        types("deploy/cluster/generate-cluster-certs --check")
        types("deploy/cluster/generate-cluster-env")


def test_install(operator: Operator) -> None:
    with section(operator, "Install") as types:
        assert "nothing was changed" in types("deploy/cluster/deploy-cluster")
        assert "nothing was started" in types("deploy/cluster/deploy-cluster --yes")


def test_bring_it_up(operator: Operator) -> None:
    with section(operator, "Bring it up") as types:
        assert "nothing was changed" in types(".venv/bin/unibus cluster roll")
        types("ssh root@51.91.100.142 systemctl enable --now membershipd-cluster")
        assert types(".venv/bin/unibus cluster roll --yes").count("HUMAN") == 2  # one is up already
        status = types("ssh root@51.91.100.142 systemctl status membershipd-cluster")
        assert "active (running)" in status
        assert 'Status: "' in status
        types("export UNIBUS_URL=https://51.91.100.142:8470,https://141.94.69.66:8470")
        types("export UNIBUS_CA=$PWD/deploy/tls/ca.crt")
        read = "ssh root@51.91.100.142 cat /var/lib/unibus/bootstrap-token"
        init = ".venv/bin/unibus --url https://51.91.100.142:8470 init YOUR-HANDLE --token-file -"
        types(f"{read} | {init}", YOUR_HANDLE="ada")
        assert "ada" in types(".venv/bin/unibus user list")


def test_verify(operator: Operator) -> None:
    with section(operator, "Verify") as types:
        types(".venv/bin/unibus posture deploy/cluster/nodes.env")
        types("deploy/cluster/generate-cluster-certs --check")
    for found in operator.does(".venv/bin/unibus posture deploy/cluster/nodes.env").stdout.splitlines()[1:]:
        assert "enforce" in found


def test_back_up(operator: Operator) -> None:
    operator.does(".venv/bin/unibus room create ops && .venv/bin/unibus send ops 'before the backup'")
    with section(operator, "Back up") as types:
        types(".venv/bin/unibus backup bus.backup")


def test_upgrade(operator: Operator) -> None:
    package = operator.origin / "src/unibus/__init__.py"
    package.write_text(package.read_text() + "\n# newer\n")
    commit(operator.origin, "newer")
    with section(operator, "Upgrade, or change a setting") as types:
        types("git pull && make .venv/.installed")
        build_bundle(operator.checkout)
        assert types("deploy/cluster/deploy-cluster --yes").count("HUMAN") == 9
        done = types(".venv/bin/unibus cluster roll --yes")
    assert [line for line in done.splitlines() if line.startswith("HUMAN")] == [
        f"HUMAN  {name}: restart" for name in ("magnus", "homer", "datardos")
    ]
    for name in ("magnus", "homer", "datardos"):
        pid = operator.hosts.on(name, "systemctl show membershipd-cluster --value --property MainPID").strip()
        release = operator.hosts.on(name, "basename $(readlink /opt/unibus/current)").strip()
        assert release in operator.hosts.on(name, f"tr '\\0' '\\n' </proc/{pid}/cmdline; ls -l /proc/{pid}/exe")
        assert "# newer" in operator.hosts.on(
            name, "cat /opt/unibus/current/venv/lib/python*/site-packages/unibus/__init__.py"
        )
    assert "ada" in operator.does(".venv/bin/unibus user list").stdout


def test_renew_the_certificates(operator: Operator) -> None:
    names = ("magnus", "homer", "datardos")
    shown = {name: serial(operator, name) for name in names}
    routes = {name: ports(operator, name, 6250) for name in names}
    assert all(routes.values())
    pids = {name: operator.hosts.on(name, "pgrep -x nats-server") for name in names}
    with section(operator, "Renew the certificates") as types:
        types("deploy/cluster/generate-cluster-certs --renew")
        types("deploy/cluster/deploy-cluster --yes")
        types.on_each("ssh root@51.91.100.142 systemctl reload membershipd-cluster", *names)
    for name in names:
        assert serial(operator, name) not in shown.values()
    assert routes == {name: ports(operator, name, 6250) for name in names}
    assert pids == {name: operator.hosts.on(name, "pgrep -x nats-server") for name in names}
    assert operator.is_green()


def test_replace_the_secret(operator: Operator) -> None:
    secret = operator.base / "cluster/secrets/cluster.pass"
    old = secret.read_text()
    with section(operator, "Replace the secret") as types:
        types("deploy/cluster/generate-cluster-env --new-secret")
        types("deploy/cluster/deploy-cluster --yes")
        assert types(".venv/bin/unibus cluster roll --new-secret --yes").count("restart") == 6  # told, and the command
    assert secret.read_text() != old
    for name in ("magnus", "homer", "datardos"):
        assert operator.hosts.on(name, "cat /opt/unibus/cluster.pass") == secret.read_text()
    assert operator.is_green()
    operator.does(".venv/bin/unibus send ops 'under a new secret'")


def test_replace_a_dead_node(operator: Operator) -> None:
    operator.hosts.lose("homer")
    new, old = PLACES["new-homer"], PLACES["homer"]
    operator.settings["EDITOR"] = f"sed -i -e s/{old.public}/{new.public}/ -e s/{old.wireguard}/{new.wireguard}/"
    operator.does(".venv/bin/unibus send ops 'two of three'")
    with section(operator, "Replace a dead node") as types:
        types("$EDITOR deploy/cluster/nodes.env")
        types("deploy/cluster/generate-cluster-certs --renew")
        types("deploy/cluster/generate-cluster-env")
        types("deploy/cluster/deploy-cluster --node homer --yes")
        assert types(".venv/bin/unibus cluster roll --yes").count("HUMAN") == 1
        types("deploy/cluster/deploy-cluster --yes")
        assert types(".venv/bin/unibus cluster roll --yes").count("HUMAN") == 2
    assert operator.is_green()
    operator.settings["UNIBUS_URL"] = f"https://{new.public}:8470"
    read = operator.does(".venv/bin/unibus tail ops --since start --count 3").stdout
    assert "before the backup" in read
    assert "two of three" in read


def test_restore_from_a_backup(operator: Operator) -> None:
    with section(operator, "Restore from a backup") as types:
        stop = "ssh root@51.91.100.142 'systemctl stop membershipd-cluster; mv /var/lib/unibus /var/lib/unibus-old'"
        types.on_each(stop, "magnus", "new-homer", "datardos")
        types(".venv/bin/unibus restore bus.backup --data-dir restored")
        assert types(".venv/bin/unibus cluster roll --yes").count("HUMAN") == 3
        read = "ssh root@51.91.100.142 cat /var/lib/unibus/bootstrap-token"
        move = ".venv/bin/unibus migrate-to-kv https://51.91.100.142:8470 --from restored --token-file -"
        types(f"{read} | {move}")
        operator.is_green()
        types(".venv/bin/unibus posture deploy/cluster/nodes.env")
    operator.settings["UNIBUS_URL"] = f"https://{PLACES['magnus'].public}:8470"
    refused = operator.refused(".venv/bin/unibus user list")
    assert "the bus was restored or moved a moment ago" in refused
    until(lambda: operator.types(".venv/bin/unibus user list").returncode == 0, "the minute after a restore", 90)
    assert "before the backup" in operator.does(".venv/bin/unibus tail ops --since start --count 1").stdout


def test_break_it_on_purpose(operator: Operator) -> None:
    with section(operator, "Break it on purpose") as types:
        types("ssh root@51.91.100.142 systemctl stop membershipd-cluster")
        assert PLACES["datardos"].public in types(".venv/bin/unibus posture deploy/cluster/nodes.env", 1)
        types(".venv/bin/unibus send ROOM 'two of three'", ROOM="ops")
        assert types(".venv/bin/unibus cluster roll --yes").count("HUMAN") == 1
        types(".venv/bin/unibus posture deploy/cluster/nodes.env")


def test_from_one_copy_to_three(operator: Operator) -> None:
    for name in operator.hosts.running:
        operator.hosts.on(name, "systemctl stop membershipd-cluster; rm -rf /var/lib/unibus")
    replaced(operator, "KV_REPLICAS=3", "KV_REPLICAS=1")
    operator.does("deploy/cluster/generate-cluster-env && deploy/cluster/deploy-cluster --yes --cluster-is-stopped")
    operator.does(".venv/bin/unibus cluster roll --yes")
    operator.settings |= {"UNIBUS_IDENTITY": f"{operator.home}/bob.nk", "UNIBUS_URL": "https://51.91.100.142:8470"}
    token = operator.hosts.on("datardos", "cat /var/lib/unibus/bootstrap-token").strip()
    operator.does(f"echo {token} | .venv/bin/unibus init bob --token-file -")
    assert '"ha":false' in operator.does(".venv/bin/unibus --json health").stdout.replace(" ", "")
    with section(operator, "From one copy to three") as types:
        types(".venv/bin/unibus cluster scale --replicas 3")
        operator.is_green()
        types(".venv/bin/unibus posture deploy/cluster/nodes.env")
        operator.settings["EDITOR"] = "sed -i s/KV_REPLICAS=1/KV_REPLICAS=3/"
        types("$EDITOR deploy/cluster/nodes.env")
        types("deploy/cluster/generate-cluster-env")
        assert types("deploy/cluster/deploy-cluster --yes").count("HUMAN") == 6
    health = operator.does(".venv/bin/unibus --json health").stdout.replace(" ", "")
    assert '"ha":true' in health
    assert '"replicas":3' in health
