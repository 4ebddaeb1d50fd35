"""The deploy tool from end to end, towards three hosts of the test's own that reach no network but each other.

Each host has a systemd of its own, so what is installed is run as it is on a real one: by its unit, as its user, in its
sandbox. Each test goes on where the one before has ended.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.checkout import Operator
from tests.cluster.hosts import Hosts, Place
from tests.support.user_manager import until

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

NAMES = ["magnus", "homer", "datardos"]
PLACES = {name: Place(f"10.88.0.{number}", f"10.99.0.{number}") for number, name in enumerate(NAMES, 1)}
PATHS = {"magnus": "/opt/unibus", "homer": "/opt/unibus", "datardos": "/srv/unibus/node-3"}
USERS = {"magnus": "root", "homer": "root", "datardos": "carol"}
INSTALLED = ("cluster.env", "cluster.pass", "current", "installed", "tls/route.key", "tls/server.crt")
STATE = (
    "cd / && find /opt /srv /etc/systemd/system /var/lib -printf '%p %M %u %l %T@\\n' | sort && sha256sum /etc/passwd"
)
CLUSTER = ".venv/bin/unibus cluster"
SHOW = "systemctl show membershipd-cluster --value --property"


def url(name: str) -> str:
    return f"https://{PLACES[name].public}:8470"


def state(operator: Operator) -> dict[str, str]:
    """Everything on the hosts that a deployment could change."""
    return {name: operator.hosts.on(name, STATE) for name in NAMES}


def daemon(operator: Operator, name: str) -> int:
    """The number of a node's daemon on its host."""
    return int(operator.hosts.on(name, f"{SHOW} MainPID"))


@pytest.fixture(scope="module")
def operator(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    home = tmp_path_factory.mktemp("operator")
    with Hosts(home / "hosts", PLACES) as hosts:
        operator = Operator(home, source / "origin", source / "bundle", hosts)
        hosts.on(
            "datardos",
            "useradd --create-home --password '*' carol && echo 'carol ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/carol",
        )
        rows = (f"NODE={name} {at.public} {at.wireguard} {USERS[name]} {PATHS[name]}\n" for name, at in PLACES.items())
        (operator.base / "cluster" / "nodes.env").write_text("CLUSTER_NAME=trial\n" + "".join(rows))
        yield operator


def test_a_cluster_is_installed_and_nothing_changes_without_being_told(operator: Operator) -> None:
    deploy = f"{CLUSTER} deploy --ssh-config {operator.hosts.ssh_config}"
    assert "run generate-cluster-certs and generate-cluster-env first" in operator.refused(deploy)
    operator.does(f"{CLUSTER} certs && {CLUSTER} env")

    before = state(operator)
    dry = operator.does(deploy)
    assert state(operator) == before
    assert "nothing was changed" in dry.stderr
    shown = [line for line in dry.stdout.splitlines() if line.startswith("HUMAN")]
    assert len(shown) == 9  # the bundle, the files, the installation, on each
    secret = (operator.base / "cluster/secrets/cluster.pass").read_text().strip()
    assert secret not in dry.stdout + dry.stderr

    done = operator.does(f"{deploy} --yes")
    assert [line for line in done.stdout.splitlines() if line.startswith("HUMAN")] == shown
    after = state(operator)
    for name in NAMES:
        at = PATHS[name]
        assert all(f"{at}/{path} " in after[name] for path in INSTALLED)
        assert f"{at}/incoming" not in after[name]
        keys = operator.hosts.on(name, f"stat -c '%a %U' {at}/cluster.pass {at}/tls/*.key")
        assert set(keys.splitlines()) == {"600 unibus"}
        assert operator.hosts.on(name, f"cat {at}/cluster.pass").strip() == secret
        assert operator.hosts.on(name, f"{SHOW} LoadState,ActiveState,UnitFileState").split() == [
            "loaded",
            "inactive",
            "disabled",
        ]
        # Who runs the service can read its secrets and change nothing.
        write = f"touch {at}/x {at}/tls/x {at}/current/venv/x"
        told = operator.hosts.on(name, f"setpriv --reuid unibus --clear-groups sh -c '{write}' 2>&1 || echo no")
        assert told.count("Permission denied") == 3
        assert told.endswith("no\n")

    again = operator.does(f"{deploy} --yes")
    assert again.stdout == ""
    assert "nothing to do" in again.stderr
    assert state(operator) == after

    operator.hosts.on("homer", "echo UNIBUS_BUS_AUTH=off >>/opt/unibus/cluster.env")
    mended = operator.does(f"{deploy} --yes")
    assert [line for line in mended.stdout.splitlines() if line.startswith("HUMAN")] == [
        "HUMAN  homer: send its files cluster.env",
        "HUMAN  homer: install",
    ]
    assert "UNIBUS_BUS_AUTH=off" not in operator.hosts.on("homer", "cat /opt/unibus/cluster.env")


def test_a_stopped_cluster_that_has_served_is_changed_by_a_persons_word_only(operator: Operator) -> None:
    operator.hosts.on("homer", "mkdir -p /var/lib/unibus/nats && echo >>/opt/unibus/cluster.env")
    assert "lacks quorum" in operator.refused("deploy/cluster/deploy-cluster --yes")
    assert operator.hosts.on("homer", "tail -c 1 /opt/unibus/cluster.env | od -An -c").split() == ["\\n"]
    operator.does("deploy/cluster/deploy-cluster --yes --cluster-is-stopped")
    operator.hosts.on("homer", "rm -r /var/lib/unibus")


def test_it_is_rolled_up_a_node_at_a_time_and_its_first_admin_logs_in(operator: Operator) -> None:
    before = state(operator)
    planned = operator.does(f"{CLUSTER} roll")
    assert "nothing was changed" in planned.stderr
    assert state(operator) == before
    done = operator.does(f"{CLUSTER} roll --yes")
    assert done.stdout == planned.stdout
    assert [line for line in done.stdout.splitlines() if line.startswith("HUMAN")] == [
        f"HUMAN  {name}: start" for name in NAMES
    ]
    began = [int(operator.hosts.on(name, f"{SHOW} ActiveEnterTimestampMonotonic")) for name in NAMES]
    assert began == sorted(began)
    assert operator.is_green()
    for name in NAMES:
        health = operator.does(f".venv/bin/unibus --json --ca deploy/tls/ca.crt --url {url(name)} health").stdout
        assert '"replicas":3' in health.replace(" ", "")
        assert operator.hosts.on(name, "systemctl is-enabled membershipd-cluster") == "enabled\n"

    token = operator.hosts.on("homer", "cat /var/lib/unibus/bootstrap-token").strip()
    shared = ".venv/bin/unibus --ca deploy/tls/ca.crt --url"
    operator.does(f"echo {token} | {shared} {url('homer')} init ada --token-file -")
    for name in NAMES:
        assert "ada" in operator.does(f"{shared} {url(name)} user list").stdout
    assert operator.is_green()


def test_the_daemon_runs_closed_in(operator: Operator) -> None:
    for name in NAMES:
        pid = daemon(operator, name)
        child = int(operator.hosts.on(name, f"pgrep --parent {pid} nats-server"))
        for process in (pid, child):
            status = dict(
                line.split(":\t", 1) for line in operator.hosts.on(name, f"cat /proc/{process}/status").splitlines()
            )
            assert (status["NoNewPrivs"], status["Seccomp"], int(status["CapBnd"], 16)) == ("1", "2", 0)
            assert status["Uid"].split()[0] == operator.hosts.on(name, "id -u unibus").strip()
        # What its processes see: a system that cannot be written, and none of the machine's homes and devices.
        inside = f"nsenter --target {pid} --mount --user --setuid $(id -u unibus)"
        operator.hosts.on(name, "touch /srv/left && chown unibus /srv/left")
        seen = operator.hosts.on(name, f"{inside} sh -c 'echo >/srv/left; ls -A /root /home /dev' 2>&1 || true")
        assert "/srv/left: Read-only file system" in seen
        assert "/root': Permission denied" in seen
        assert "tty1" not in seen


def test_a_killed_daemon_comes_back_and_so_does_a_killed_server(operator: Operator) -> None:
    pid = daemon(operator, "magnus")
    operator.hosts.on("magnus", f"kill -9 {pid}")
    until(lambda: operator.hosts.on("magnus", f"{SHOW} NRestarts") == "1\n", "systemd to restart it")
    assert operator.is_green()
    pid = daemon(operator, "magnus")
    operator.hosts.on("magnus", f"pkill -9 --parent {pid} nats-server")
    assert operator.is_green()
    assert daemon(operator, "magnus") == pid


def test_a_hung_daemon_is_ended_and_nobody_rolls_meanwhile(operator: Operator) -> None:
    operator.hosts.on("homer", f"kill -STOP {daemon(operator, 'homer')}")
    assert "the cluster lacks quorum without magnus" in operator.refused(f"{CLUSTER} roll --all --yes")
    until(lambda: operator.hosts.on("homer", f"{SHOW} NRestarts") == "1\n", "the watchdog", 60)
    assert "watchdog" in operator.hosts.on("homer", "journalctl --no-pager --unit membershipd-cluster").lower()
    assert operator.is_green()


def test_a_node_that_was_lost_is_replaced_while_the_others_may_not_be_touched(operator: Operator) -> None:
    operator.hosts.on("homer", "systemctl stop membershipd-cluster && rm -rf /var/lib/unibus /opt/unibus/*")
    replaced = operator.does("deploy/cluster/deploy-cluster --node homer --yes")
    assert replaced.stdout.count("HUMAN  homer: ") == 3
    operator.hosts.on("magnus", "echo >>/opt/unibus/cluster.env")
    assert "magnus: the cluster lacks quorum without it" in operator.refused("deploy/cluster/deploy-cluster --yes")
    operator.does(f"{CLUSTER} roll --yes")
    assert operator.is_green()
    assert "HUMAN  magnus: send its files cluster.env" in operator.does("deploy/cluster/deploy-cluster --yes").stdout
