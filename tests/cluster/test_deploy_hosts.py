"""The deploy tool from end to end, towards three hosts of the test's own that reach no network but each other.

What is installed on the hosts is real, and is then run: each test goes on where the one before has ended.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.hosts import Hosts
from unibus.cluster.layout import UNIT

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

ROOT = Path(__file__).parent.parent.parent
UNIBUS = Path(sys.executable).parent / "unibus"
NAMES = ["magnus", "homer", "datardos"]
INSTALLED = ("cluster.env", "cluster.pass", "current", "installed", "tls/route.key", "tls/server.crt")
_START = """
set -eu
install -d -m 0700 -o unibus -g unibus /var/lib/unibus
cd /var/lib/unibus
set -a; . /opt/unibus/cluster.env; set +a
setsid setpriv --reuid unibus --regid unibus --clear-groups {command} >>/opt/daemon.log 2>&1 </dev/null &
"""
STATE = "cd / && find /opt /etc/systemd/system /var/lib -printf '%p %M %u %l %T@\\n' | sort && sha256sum /etc/passwd"


@dataclass
class Operator:
    """Somebody with a checkout, a bundle built from it, and a `nodes.env` that names the hosts."""

    base: Path
    checkout: Path
    hosts: Hosts

    def unibus(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A command of `unibus cluster`."""
        return self.hosts.run(UNIBUS, "cluster", "--dir", self.base, *arguments)

    def does(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A command that has to succeed."""
        outcome = self.unibus(*arguments)
        assert outcome.returncode == 0, outcome.stderr
        return outcome

    def deploys(self, *more: str) -> subprocess.CompletedProcess[str]:
        """`deploy-cluster`."""
        return self.does("deploy", "--checkout", self.checkout, "--ssh-config", self.hosts.ssh_config, *more)

    def refused_deploy(self, *more: str) -> str:
        """What `deploy-cluster` says that has to refuse."""
        how: list[str | Path] = ["--checkout", self.checkout, "--ssh-config", self.hosts.ssh_config]
        outcome = self.unibus("deploy", *how, *more)
        assert outcome.returncode == 1, outcome.stdout
        return outcome.stderr

    def start(self, name: str) -> None:
        """Start a node's daemon as its unit says. These hosts have no systemd to do it."""
        unit = (self.base / UNIT).read_text()
        words = unit.partition("ExecStart=")[2].partition("ExecReload=")[0].replace("\\\n", " ").split()
        self.hosts.on(name, _START.format(command=" ".join(words)))

    def posture_gets(self, wanted: int) -> None:
        """Return once `unibus posture` exits with that, over all nodes."""
        ca, nodes = self.base / "tls/ca.crt", self.base / "cluster/nodes.env"
        until = time.monotonic() + 60
        while (outcome := self.hosts.run(UNIBUS, "--ca", ca, "posture", nodes)).returncode != wanted:
            logs = "".join(self.hosts.on(name, "tail -n 5 /opt/daemon.log") for name in NAMES)
            assert time.monotonic() < until, outcome.stdout + outcome.stderr + logs
            time.sleep(0.5)

    def state(self) -> dict[str, str]:
        """Everything on the hosts that a deployment could change."""
        return {name: self.hosts.on(name, STATE) for name in NAMES}


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    home = tmp_path_factory.mktemp("operator")
    checkout, base = home / "checkout", home / "deploy"
    checkout.mkdir()
    for name in ("pyproject.toml", "requirements.lock", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(ROOT / "src", checkout / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "deploy", base, ignore=shutil.ignore_patterns("out", "build", "secrets", "tls"))
    with Hosts(home / "hosts", NAMES) as hosts:
        rows = (
            f"NODE={name} {hosts.address(name)} {hosts.address(name, '10.99.0')} root /opt/unibus" for name in NAMES
        )
        (base / "cluster" / "nodes.env").write_text("\n".join(["CLUSTER_NAME=trial", *rows]) + "\n")
        # The only step that asks a registry is taken outside: the hosts' world reaches none.
        subprocess.run([UNIBUS, "cluster", "--dir", base, "bundle", "--checkout", checkout], check=True, timeout=300)
        yield Operator(base, checkout, hosts)


def test_a_cluster_is_installed_and_nothing_changes_without_being_told(operator: Operator) -> None:
    assert "run generate-cluster-certs and generate-cluster-env first" in operator.refused_deploy()
    operator.does("certs")
    operator.does("env")

    before = operator.state()
    dry = operator.deploys()
    assert operator.state() == before
    assert "nothing was changed" in dry.stderr
    shown = [line for line in dry.stdout.splitlines() if line.startswith("HUMAN")]
    assert len(shown) == 9  # the bundle, the files, the installation, on each
    secret = (operator.base / "cluster/secrets/cluster.pass").read_text().strip()
    assert secret not in dry.stdout + dry.stderr

    done = operator.deploys("--yes")
    assert [line for line in done.stdout.splitlines() if line.startswith("HUMAN")] == shown
    after = operator.state()
    for name in NAMES:
        assert all(f"/opt/unibus/{path} " in after[name] for path in INSTALLED)
        assert "/opt/unibus/incoming" not in after[name]
        keys = operator.hosts.on(name, "stat -c '%a %U' /opt/unibus/cluster.pass /opt/unibus/tls/*.key")
        assert set(keys.splitlines()) == {"600 unibus"}
        assert operator.hosts.on(name, "cat /opt/unibus/cluster.pass").strip() == secret
        told = operator.hosts.on(name, "cd / && /opt/unibus/current/venv/bin/unibus-membershipd --version")
        assert told.startswith("unibus-membershipd, version ")
        operator.hosts.on(name, "cd / && /opt/unibus/current/venv/bin/nats-server --version")
        # Who runs the service can read its secrets and change nothing.
        write = "touch /opt/unibus/x /opt/unibus/tls/x /opt/unibus/current/venv/x"
        assert (
            operator.hosts.on(name, f"setpriv --reuid unibus --clear-groups sh -c '{write}' 2>/dev/null || echo no")
            == "no\n"
        )

    again = operator.deploys("--yes")
    assert again.stdout == ""
    assert "nothing to do" in again.stderr
    assert operator.state() == after

    tampered = operator.hosts.names[1]
    operator.hosts.on(tampered, "echo UNIBUS_BUS_AUTH=off >>/opt/unibus/cluster.env")
    mended = operator.deploys("--yes")
    assert [line for line in mended.stdout.splitlines() if line.startswith("HUMAN")] == [
        f"HUMAN  {tampered}: send its files cluster.env",
        f"HUMAN  {tampered}: install",
    ]
    assert "UNIBUS_BUS_AUTH=off" not in operator.hosts.on(tampered, "cat /opt/unibus/cluster.env")


def test_a_stopped_cluster_that_has_served_is_changed_by_a_persons_word_only(operator: Operator) -> None:
    touched = operator.hosts.names[1]
    operator.hosts.on(touched, "mkdir -p /var/lib/unibus/nats && echo >>/opt/unibus/cluster.env")
    refused = operator.refused_deploy("--yes")
    assert "lacks quorum" in refused
    assert operator.hosts.on(touched, "tail -c 1 /opt/unibus/cluster.env | od -An -c").split() == ["\\n"]
    operator.deploys("--yes", "--cluster-is-stopped")
    operator.hosts.on(touched, "rm -r /var/lib/unibus")


def test_what_was_installed_comes_up_and_a_node_is_changed_only_with_quorum(operator: Operator) -> None:
    for name in NAMES:
        operator.start(name)
    operator.posture_gets(0)
    identity = operator.base.parent / "identity.nk"
    token = operator.base.parent / "token"
    token.touch(0o600)
    token.write_text(operator.hosts.on("homer", "cat /var/lib/unibus/bootstrap-token"))
    url = ",".join(f"https://{operator.hosts.address(name)}:8470" for name in NAMES)
    shared: list[str | Path] = ["--url", url, "--ca", operator.base / "tls/ca.crt", "--identity", identity]
    founded = operator.hosts.run(UNIBUS, *shared, "init", "ada", "--token-file", token)
    assert founded.returncode == 0, founded.stderr
    users = operator.hosts.run(UNIBUS, *shared, "user", "list")
    assert "ada" in users.stdout
    operator.posture_gets(0)

    # homer's host is lost. The two others hold the quorum: homer may be replaced, and they may not be touched.
    operator.hosts.on("homer", "kill -9 $(cat /var/lib/unibus/lock) && rm -rf /var/lib/unibus/* /opt/unibus/*")
    operator.posture_gets(1)
    replaced = operator.deploys("--node", "homer", "--yes")
    assert replaced.stdout.count("HUMAN  homer: ") == 3
    operator.hosts.on("magnus", "echo >>/opt/unibus/cluster.env")
    assert "magnus: the cluster lacks quorum without it" in operator.refused_deploy("--yes")
    operator.start("homer")
    operator.posture_gets(0)
    assert "HUMAN  magnus: send its files cluster.env" in operator.deploys("--yes").stdout
