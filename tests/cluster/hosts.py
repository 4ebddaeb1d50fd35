"""Hosts of the test's own: network namespaces on a bridge, each with sshd, and with /etc, /opt and /var/lib of its own.

They are in namespaces below one process, so that all of it is gone when that process is. Nothing of this machine
changes, and there is no way to any other network, so what installs here needs none. Needs root.
"""

import shlex
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

WAIT = 60.0  # seconds that one command may take

_WORLD = """\
set -eu
mount --make-rprivate /
mkdir -p /run/netns /run/sshd
mount -t tmpfs tmpfs /run/netns
mount -t tmpfs -o mode=755 tmpfs /run/sshd
mount -t tmpfs tmpfs "$1"
ip link set lo up
ip link add bridge type bridge
ip address add 10.88.0.254/24 dev bridge
ip link set bridge up
echo ready
exec sleep infinity
"""

_HOST = """\
set -eu
name=$1 number=$2 home=$3 scratch=$4
ip netns add "$name"
ip link add "$name" type veth peer name eth0 netns "$name"
ip link set "$name" master bridge up
ip -n "$name" link set lo up
ip -n "$name" link set eth0 up
ip -n "$name" address add "10.88.0.$number/24" dev eth0
ip -n "$name" address add "10.99.0.$number/24" dev eth0
mkdir -p "$scratch/$name/upper" "$scratch/$name/work"
exec ip netns exec "$name" unshare --mount sh -eu -c '
	mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc
	mount -t tmpfs -o mode=755 tmpfs /opt
	mount -t tmpfs -o mode=755 tmpfs /var/lib
	usermod -p "*" root
	exec /usr/sbin/sshd -D -e -f "$2/sshd_config"
' host "$scratch/$name" "$home"
"""


class Hosts:
    """While entered, the hosts `names` have the addresses 10.88.0.1, 10.88.0.2, … and 10.99.0.1, … with root's ssh."""

    def __init__(self, home: Path, names: list[str]) -> None:
        self.home, self.names = home, names
        self.ssh_config = home / "ssh_config"
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        scratch = self.home / "scratch"
        scratch.mkdir(parents=True)
        self._make_keys()
        try:
            world = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
            self._say(self._spawn([*world, "sh", "-c", _WORLD, "world", str(scratch)]), "ready")
            for number, name in enumerate(self.names, 1):
                host = ["sh", "-c", _HOST, "host", name, str(number), str(self.home), str(scratch)]
                self._say(self._spawn(self._inside(host)), "Server listening")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def address(self, name: str, network: str = "10.88.0") -> str:
        """A host's address: the public one, or with `network` another."""
        return f"{network}.{self.names.index(name) + 1}"

    def run(self, *command: str | Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command beside the hosts, on the operator's machine, to its end."""
        words = self._inside([str(word) for word in command])
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=WAIT * 3, check=False)

    def on(self, name: str, script: str) -> str:
        """What a shell script prints on a host, where it has to succeed."""
        outcome = self.run("ssh", "-F", self.ssh_config, f"root@{self.address(name)}", script)
        assert outcome.returncode == 0, outcome.stderr
        return outcome.stdout

    def _make_keys(self) -> None:
        for name in ("host_key", "user_key"):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.home / name)]
            subprocess.run(keygen, check=True)
        key = (self.home / "host_key.pub").read_text().strip()
        known = "".join(f"{self.address(name)} {key}\n" for name in self.names)
        (self.home / "known_hosts").write_text(known)
        home = shlex.quote(str(self.home))
        self.ssh_config.write_text(
            f"Host *\n  IdentityFile {home}/user_key\n  IdentitiesOnly yes\n  UserKnownHostsFile {home}/known_hosts\n"
            "  StrictHostKeyChecking yes\n  LogLevel ERROR\n"
        )
        (self.home / "sshd_config").write_text(
            f"HostKey {self.home}/host_key\nAuthorizedKeysFile {self.home}/user_key.pub\nStrictModes no\nUsePAM no\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\nPidFile none\nMaxStartups 100\n"
        )

    def _inside(self, command: list[str]) -> list[str]:
        # The first process is unshare itself; its child is the first of the new namespaces.
        (child,) = Path(f"/proc/{self._processes[0].pid}/task/{self._processes[0].pid}/children").read_text().split()
        return ["nsenter", "--target", child, "--net", "--mount", "--pid", *command]

    def _spawn(self, command: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._processes.append(process)
        return process

    def _say(self, process: subprocess.Popen[str], word: str) -> None:
        """Wait until the process has said `word`."""
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if word in line:
                return
        raise AssertionError(f"a host did not start: {said}")

    def _end(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
