"""The service of one user, under a real `systemd --user`: installed, killed, hung, changed, removed, and attacked."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.user_manager import HOST_ADDRESS, PYTHON, UID, UserManager, until

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
UNIT = "unibus-membershipd.service"
PARTS = ("src", "deploy", "Makefile", "requirements.lock", "pyproject.toml", "README.md", "LICENSE")
BUILD_NEEDS = ("hatchling>=1.27", "editables")


def run(*command: str | Path) -> None:
    """Run a command on the machine itself."""
    subprocess.run(command, check=True)


def copy_checkout(to: Path) -> None:
    """What of this checkout an installation needs."""
    to.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, to / part, ignore=shutil.ignore_patterns("__pycache__", "out", "secrets"))
        else:
            shutil.copy2(ROOT / part, to / part)


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    """A directory that every user may enter: a checkout with its environment, and what building that again takes."""
    with tempfile.TemporaryDirectory(prefix="unibus-deploy-") as name:
        ground = Path(name)
        ground.chmod(0o755)
        checkout = ground / "a checkout"
        copy_checkout(checkout)
        run("make", "--silent", ".venv/.installed", f"PYTHON={PYTHON}", "-C", checkout)
        run(checkout / ".venv/bin/python", "-m", "pip", "download", "-q", "-d", ground / "wheels", *BUILD_NEEDS)
        run("chown", "-R", f"{UID}:{UID}", ground)
        yield ground


class Host:
    """A user's session beside a checkout that was never installed."""

    def __init__(self, manager: UserManager, checkout: Path) -> None:
        self.manager = manager
        self.checkout = checkout
        self.data = checkout / "local_files"

    def install(self, *flags: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run install.sh; there is no network to build with but the wheels that lie there."""
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.checkout.parent / "wheels"), "PYTHON": str(PYTHON)}
        return self.manager.run(self.checkout / "deploy/install.sh", *flags, check=check, **offline)

    def unibus(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the client, with an identity in the user's home."""
        client = self.checkout / ".venv/bin/unibus"
        token = ["--token-file", str(self.data / "bootstrap-token")] if words[0] == "init" else []
        identity = ["--identity", str(self.manager.home / "ada.nk")]
        return self.manager.run(client, *identity, *words, *token, check=check)

    def healthy(self) -> bool:
        return self.unibus("health", check=False).returncode == 0

    def systemctl(self, *words: str) -> str:
        return self.manager.run("systemctl", "--user", *words).stdout

    def show(self, name: str) -> str:
        return self.manager.show(UNIT, name)

    def settings(self, *lines: str) -> None:
        """Local settings, as `systemctl --user edit` writes them."""
        place = self.manager.services / f"{UNIT}.d"
        place.mkdir(exist_ok=True)
        (place / "50-test.conf").write_text("\n".join(("[Service]", *lines, "")))
        self.systemctl("daemon-reload")

    @property
    def daemon(self) -> int:
        """The daemon's process, 0 if there is none now."""
        return int(self.show("MainPID"))

    @property
    def child(self) -> int | None:
        """The nats-server's process, None if there is none now."""
        return self.manager.process(UNIT, "nats-server")

    def send(self, number: signal.Signals, pid: int | None) -> None:
        """Send a signal to a process of the host."""
        self.manager.run_as_root("kill", f"-{number.value}", str(pid))


@pytest.fixture
def host(ground: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A fresh session of a user who has a checkout, built and never installed."""
    checkout = ground / "a checkout"
    home = ground / tmp_path_factory.mktemp("home").name
    with UserManager(home) as manager:
        yield Host(manager, checkout)
    shutil.rmtree(home)
    shutil.rmtree(checkout / "local_files", ignore_errors=True)
    (checkout / ".venv/.deployed").unlink(missing_ok=True)


def snapshot(*places: Path) -> dict[Path, tuple[int, int]]:
    """What stands in places, and when it was last changed."""
    found = [path for place in places for path in (place, *place.rglob("*"))]
    return {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in found}


def test_one_command_installs_and_again_changes_nothing(host: Host) -> None:
    said = host.install().stdout
    assert f"started {UNIT}" in said
    assert "http 0.0.0.0:8470, nats 0.0.0.0:4250, bus-auth enforce" in said
    assert "sandbox  yes" in said
    assert ".venv/bin/unibus init YOUR-HANDLE" in said
    assert "loginctl enable-linger" in said
    assert (host.show("ActiveState"), host.show("UnitFileState")) == ("active", "enabled")
    assert host.data.stat().st_mode & 0o777 == 0o700

    health = host.manager.run_as_root(
        *("ip", "netns", "exec", "neighbour", "curl", "-fsS", f"http://{HOST_ADDRESS}:8470/healthz")
    )
    assert json.loads(health.stdout)["bus_auth"] == "enforce"
    host.unibus("init", "ada")

    before = snapshot(host.manager.services, host.checkout / "deploy", host.checkout / "src", host.checkout / ".venv")
    invocation = host.show("InvocationID")
    again = host.install().stdout
    assert again.startswith("nothing to change\n")
    assert "init" not in again
    assert host.show("InvocationID") == invocation
    after = snapshot(host.manager.services, host.checkout / "deploy", host.checkout / "src", host.checkout / ".venv")
    assert {path for path in after if after[path] != before.get(path)} == set()


def test_the_steps_by_hand_do_the_same(host: Host) -> None:
    by_hand = (ROOT / "deploy/README.md").read_text().partition("### By hand\n")[2]
    steps = by_hand.split("```sh\n")[1].split("```")[0]
    said = host.manager.run("sh", "-euc", f'cd "$0"\n{steps}', host.checkout).stdout
    assert "status" in said
    assert (host.show("ActiveState"), host.show("UnitFileState")) == ("active", "enabled")
    assert host.data.stat().st_mode & 0o777 == 0o700
    host.unibus("init", "ada")
    invocation = host.show("InvocationID")
    assert "sandbox  yes" in host.install().stdout
    assert host.show("InvocationID") != invocation
    assert "ada" in host.unibus("user", "list").stdout


def test_one_appended_flag_makes_it_use_a_server_that_is_there(host: Host) -> None:
    host.install()
    host.unibus("init", "ada")
    section = (ROOT / "deploy/README.md").read_text().partition("### A NATS server that is there already\n")[2]
    first, second, *_ = (block.partition("```")[0] for block in section.split("```sh\n")[1:])
    host.manager.run("sh", "-euc", f'cd "$0"\n{first}', host.checkout)
    conf = host.manager.home / "server.conf"
    where = f'listen: "127.0.0.1:4222"\njetstream {{ store_dir: "{host.manager.home}/nats", sync_interval: always }}\n'
    conf.write_text(f'{where}include "unibus.conf"\n')
    shutil.move(host.checkout / "unibus.conf", host.manager.home)
    host.manager.run("systemd-run", "--user", "--unit=nats", host.checkout / ".venv/bin/nats-server", "-c", conf)
    said = host.manager.run("sh", "-euc", f'cd "$0"\n{second}', host.checkout).stdout
    assert "external" in said
    until(host.healthy, "a healthy node")
    assert host.child is None
    assert "ada" in host.unibus("user", "list").stdout
    host.unibus("room", "create", "ops")
    host.unibus("send", "ops", "over the other server")
    assert "over the other server" in host.unibus("tail", "ops", "--since", "start", "--count", "1").stdout


def test_a_host_without_namespaces_is_told_what_that_means(host: Host) -> None:
    host.manager.run_as_root("rmdir", "/run/systemd/unit-root")
    said = host.install().stdout
    assert "sandbox  no: this host lets no user have namespaces" in said
    assert host.install().stdout.startswith("nothing to change\n")
    host.manager.run_as_root("mkdir", "/run/systemd/unit-root")
    assert "sandbox  yes" in host.install().stdout
    said = host.install("--no-sandbox").stdout
    assert f"started {UNIT}" in said
    assert "sandbox  no: you did not want one" in said


def test_what_was_killed_is_back_with_all_that_it_knew(host: Host) -> None:
    host.install()
    host.unibus("init", "ada")
    daemon, child = host.daemon, host.child

    host.send(signal.SIGKILL, child)
    until(lambda: host.child not in {None, child}, "a new child")
    until(host.healthy, "a healthy node")
    assert (host.daemon, host.show("NRestarts")) == (daemon, "0")

    child = host.child
    host.send(signal.SIGKILL, daemon)
    until(lambda: host.show("NRestarts") == "1", "a restart")
    until(host.healthy, "a healthy node")
    assert host.daemon != daemon
    assert host.child not in {None, child}
    assert "ada" in host.unibus("user", "list").stdout


def test_a_daemon_that_hangs_is_restarted_and_a_server_that_hangs_is_replaced(host: Host) -> None:
    host.install()
    host.settings("WatchdogSec=2")
    host.systemctl("restart", UNIT)
    daemon, child = host.daemon, host.child

    host.send(signal.SIGSTOP, child)
    until(lambda: host.child not in {None, child}, "a new child")
    until(host.healthy, "a healthy node")
    assert (host.daemon, host.show("NRestarts")) == (daemon, "0")

    host.send(signal.SIGSTOP, daemon)
    until(lambda: host.show("NRestarts") == "1", "the watchdog")
    until(host.healthy, "a healthy node")
    assert host.daemon not in {0, daemon}


def test_it_reloads_stops_and_is_removed_and_the_data_stays(host: Host) -> None:
    host.install()
    host.unibus("init", "ada")
    invocation = host.show("InvocationID")
    host.systemctl("reload", UNIT)
    until(lambda: host.show("SubState") == "running", "the reload")
    assert host.show("InvocationID") == invocation

    host.systemctl("stop", UNIT)
    assert (host.show("ActiveState"), host.show("Result")) == ("inactive", "success")
    host.systemctl("start", UNIT)
    said = host.install("--uninstall").stdout
    assert f"the data is still in {host.data}" in said
    assert host.show("LoadState") == "not-found"
    assert [path for path in host.manager.services.rglob("*") if path.is_file() or path.is_symlink()] == []
    assert (host.data / "unibus.sqlite3").exists()
    host.install("--uninstall")

    host.install()
    assert "ada" in host.unibus("user", "list").stdout


def test_an_edit_restarts_and_another_lock_rebuilds(host: Host) -> None:
    host.install()
    edited, lock = host.checkout / "src/unibus/edited.py", host.checkout / "requirements.lock"
    kept = lock.read_bytes()
    try:
        edited.write_text('"""An edit."""\n')
        invocation = host.show("InvocationID")
        assert host.install().stdout.startswith(f"started {UNIT}\n")
        assert host.show("InvocationID") != invocation
        lock.write_bytes(kept + b"# edited\n")
        said = host.install().stdout
        assert "built the environment" in said
        assert f"started {UNIT}" in said
        assert host.install().stdout.startswith("nothing to change\n")
    finally:
        edited.unlink()
        lock.write_bytes(kept)


def test_a_start_that_cannot_be_says_why_and_is_mended_by_itself(host: Host) -> None:
    taker = "import socket, time; s = socket.create_server(('0.0.0.0', 8470)); time.sleep(600)"
    host.manager.run("systemd-run", "--user", "--unit=taker", PYTHON, "-c", taker)
    refused = host.install(check=False)
    assert refused.returncode == 1
    assert "cannot listen on --http-bind 0.0.0.0:8470" in refused.stderr
    host.systemctl("stop", "taker")
    until(host.healthy, "a healthy node")
    assert f"started {UNIT}" in host.install().stdout


def test_a_service_of_another_checkout_is_left_alone(host: Host) -> None:
    host.install()
    other = host.checkout.parent / "another"
    copy_checkout(other)
    try:
        invocation = host.show("InvocationID")
        for flags in ([], ["--uninstall"]):
            refused = host.manager.run(other / "deploy/install.sh", *flags, check=False)
            assert refused.returncode == 1
            assert f"is installed from {host.checkout}/deploy/{UNIT}" in refused.stderr
        assert host.show("InvocationID") == invocation
    finally:
        shutil.rmtree(other)


ATTACK = """
import ctypes, json, os, socket, sys
from pathlib import Path

def outcome(act):
    try:
        return act() or "done"
    except OSError as error:
        return error.strerror

def dial(path):
    with socket.socket(socket.AF_UNIX) as to:
        to.connect(path)

def call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        return os.strerror(ctypes.get_errno())

home, runtime = Path.home(), os.environ["XDG_RUNTIME_DIR"]
found = {
    "read an identity": outcome(lambda: (home / "ada.nk").read_text()),
    "see the home": sorted(p.name for p in home.iterdir()),
    "write into the home": outcome(lambda: (home / ".profile").write_text("evil")),
    "change the program": outcome(lambda: Path("src/unibus/evil.py").write_text("evil")),
    "change the environment": outcome(lambda: Path(".venv/evil").write_text("evil")),
    "change the unit": outcome(lambda: Path("deploy/evil").write_text("evil")),
    "have systemd start something": outcome(lambda: dial(runtime + "/systemd/private")),
    "the same by dbus": outcome(lambda: dial(runtime + "/bus")),
    "make namespaces": call("unshare", 0x10000000),
    "trace a process": call("ptrace", 16, os.getppid(), 0, 0),
    "leave by another process": sorted({
        outcome(lambda p=p: os.listdir(f"/proc/{p}/root")) for p in os.listdir("/proc")
        if p.isdigit() and os.stat(f"/proc/{p}").st_uid == os.getuid() and int(p) not in {os.getpid(), MAIN}
    } if (MAIN := int(sys.argv[1])) else ()),
    "keep what it may": outcome(lambda: Path("local_files/attack").write_text("mine") and None),
}
Path("local_files/attack.json").write_text(json.dumps(found))
"""


def test_whoever_takes_the_daemon_over_does_not_have_the_user(host: Host) -> None:
    host.install()
    host.unibus("init", "ada")
    assert (host.manager.home / "ada.nk").exists()
    attack = host.data / "attack.py"
    attack.write_text(ATTACK)
    os.chown(attack, UID, UID)
    host.settings("ExecStartPost=/usr/bin/env --chdir=.. .venv/bin/python local_files/attack.py $MAINPID")
    host.systemctl("restart", UNIT)
    found = json.loads((host.data / "attack.json").read_text())
    nothing, read_only, refused = "No such file or directory", "Read-only file system", "Operation not permitted"
    assert found == {
        "read an identity": nothing,
        "see the home": [],
        "write into the home": read_only,
        "change the program": read_only,
        "change the environment": read_only,
        "change the unit": read_only,
        "have systemd start something": nothing,
        "the same by dbus": nothing,
        "make namespaces": refused,
        "trace a process": refused,
        "leave by another process": ["Permission denied"],
        "keep what it may": "done",
    }
    main = f"/proc/{host.daemon}/status"
    facts = dict(line.split(":\t", 1) for line in host.manager.run_as_root("cat", main).stdout.splitlines())
    assert (facts["NoNewPrivs"], facts["Seccomp"], facts["CapBnd"]) == ("1", "2", "0" * 16)
