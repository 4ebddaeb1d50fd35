"""Hosts of the test's own, on a network of theirs: each with systemd as process 1, a journal, sshd and its own files.

They are in namespaces below one process, so that all of it is gone when that process is. Nothing of this machine
changes, and there is no way to any other network, so what installs here needs none. Needs root.
"""

import os
import shlex
import subprocess
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.support.cgroups import cgroups, remove_cgroup
from tests.support.user_manager import until

WAIT = 60.0  # seconds that one command may take

_WORLD = """\
set -eu
mount --make-rprivate /
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
mount -t tmpfs tmpfs "$1"
ip link set lo up
ip link add bridge type bridge
ip address add 10.88.0.254/32 dev bridge
ip link set bridge up
echo ready
exec sleep infinity
"""
_HOST = """\
set -eu
name=$1 public=$2 wireguard=$3 cgroup=$4
shift 4
ip netns add "$name"
ip link add "$name" type veth peer name eth0 netns "$name"
ip link set "$name" master bridge up
ip route add "$public" dev bridge
ip -n "$name" link set lo up
ip -n "$name" link set eth0 up
ip -n "$name" address add "$public/32" dev eth0
ip -n "$name" address add "$wireguard/32" dev eth0
ip -n "$name" route add default dev eth0
echo $$ >"$cgroup/cgroup.procs"
exec nsenter "--net=/run/netns/$name" unshare --mount --pid --uts --ipc --cgroup --fork --kill-child "$@"
"""
_BOOT = Path(__file__).with_name("boot-host.sh")


class Place(NamedTuple):
    """Where a host is found."""

    public: str
    wireguard: str


class Hosts:
    """The hosts of `places`, by their names, while entered; root gets in by ssh."""

    def __init__(self, home: Path, places: Mapping[str, Place]) -> None:
        self.home, self.places = home, places
        self.ssh_config = home / "ssh_config"
        self._cgroup = cgroups() / f"unibus-hosts-{os.getpid()}-{time.monotonic_ns()}"
        self._world: subprocess.Popen[bytes]
        self._hosts: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        scratch, ssh = self.home / "scratch", self.home / "ssh"
        scratch.mkdir(parents=True)
        ssh.mkdir()
        self._make_keys(ssh)
        namespaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        world = ["setpriv", "--pdeathsig", "KILL", *namespaces, "sh", "-c", _WORLD, "world", str(scratch)]
        self._world = self._spawn(world, "world")
        try:
            until(lambda: self._said("world") == "ready\n", "the world", WAIT)
            for name, place in self.places.items():
                cgroup = self._cgroup / name
                cgroup.mkdir(parents=True)
                boot = ["sh", str(_BOOT), name, str(ssh), str(scratch / name)]
                host = ["sh", "-c", _HOST, "host", name, *place, str(cgroup), *boot]
                self._hosts[name] = self._spawn(self._inside(host), name)
            for name in self.places:
                until(partial(self._is_up, name), f"the host {name}", WAIT)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def running(self) -> list[str]:
        """The hosts that were not lost."""
        return list(self._hosts)

    def lose(self, name: str) -> None:
        """Cut a host's power and its cable, for ever."""
        (self._cgroup / name / "cgroup.kill").write_text("1")
        self.run("ip", "link", "delete", name)
        self._hosts.pop(name).wait()
        remove_cgroup(self._cgroup / name)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command beside the hosts, on the operator's machine, to its end."""
        words = self._inside([str(word) for word in command])
        return subprocess.run(words, capture_output=True, text=True, timeout=WAIT * 5, check=False)

    def on(self, name: str, script: str) -> str:
        """What a shell script prints on a host, where it has to succeed."""
        outcome = self._ask(name, script)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        return outcome.stdout

    def _ask(self, name: str, script: str) -> subprocess.CompletedProcess[str]:
        return self.run("ssh", "-F", self.ssh_config, f"root@{self.places[name].public}", script)

    def _is_up(self, name: str) -> bool:
        assert self._hosts[name].poll() is None, self._said(name)
        return self._ask(name, "systemctl is-system-running").stdout.strip() == "running"

    def _make_keys(self, ssh: Path) -> None:
        for key in (ssh / "host_key", self.home / "user_key"):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key.name, "-f", str(key)]
            subprocess.run(keygen, check=True)
        (ssh / "authorized_keys").write_text((self.home / "user_key.pub").read_text())
        key_line = (ssh / "host_key.pub").read_text().strip()
        known = "".join(f"{place.public} {key_line}\n" for place in self.places.values())
        (self.home / "known_hosts").write_text(known)
        home = shlex.quote(str(self.home))
        self.ssh_config.write_text(
            f"Host *\n  IdentityFile {home}/user_key\n  IdentitiesOnly yes\n  UserKnownHostsFile {home}/known_hosts\n"
            "  StrictHostKeyChecking yes\n  LogLevel ERROR\n"
        )
        (ssh / "sshd_config").write_text(
            "HostKey /etc/ssh/host/host_key\nAuthorizedKeysFile /etc/ssh/host/authorized_keys\nStrictModes no\n"
            "UsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nPidFile none\nMaxStartups 100\n"
        )

    def _inside(self, command: list[str]) -> list[str]:
        # The world's process is unshare itself (setpriv became it); its child is the first of the new namespaces.
        (child,) = Path(f"/proc/{self._world.pid}/task/{self._world.pid}/children").read_text().split()
        return ["nsenter", "--target", child, "--net", "--mount", "--pid", *command]

    def _spawn(self, command: list[str], name: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{name}.log").open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def _said(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()

    def _end(self) -> None:
        for process in (self._world, *self._hosts.values()):
            process.kill()
        for process in (self._world, *self._hosts.values()):
            process.wait()
        remove_cgroup(self._cgroup)
