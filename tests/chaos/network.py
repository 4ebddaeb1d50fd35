"""A network of the test's own: one namespace for each node, all on a bridge, with ways to break it. Needs root.

`make chaos` starts the tests in namespaces of their own, so that nothing of this machine changes and nothing is left.
"""

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from unibus.cluster.local import LocalNode

NET = "10.77.0"


def run(*command: str | Path) -> str:
    """What a command prints, which has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
    return done.stdout


class Network:
    """While entered, namespaces `names` have the addresses 10.77.0.1, 10.77.0.2, … and reach each other and us."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)

    def address(self, name: str) -> str:
        """The address of a namespace."""
        return f"{NET}.{self.names.index(name) + 1}"

    def places(self) -> list[LocalNode]:
        """A node for each namespace, on the usual ports."""
        return [LocalNode(name, 8470, 4250, 6250, self.address(name)) for name in self.names]

    def inside(self, name: str) -> tuple[str, ...]:
        """What to begin a command with that is to run in a namespace."""
        return ("ip", "netns", "exec", name)

    def make(self) -> None:
        """Make it, in a network namespace that has nothing in it yet."""
        assert [name for _, name in socket.if_nameindex()] == ["lo"], "run these by make chaos, in their own namespaces"
        run("mount", "--make-rprivate", "/")
        Path("/run/netns").mkdir(exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "bridge", "type", "bridge")
        run("ip", "address", "add", f"{NET}.254/24", "dev", "bridge")
        run("ip", "link", "set", "bridge", "up")
        for name in self.names:
            run("ip", "netns", "add", name)
            run("ip", "link", "add", f"v{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "link", "set", f"v{name}", "master", "bridge", "up")
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")

    def drop(self, source: str, target: str) -> None:
        """From now on nothing that `source` sends arrives at `target`."""
        run(*self.inside(target), "iptables", "-w", "-A", "INPUT", "-s", self.address(source), "-j", "DROP")

    def lose(self, source: str, share: float) -> None:
        """From now on so much of what `source` sends to other nodes is lost, such as 0.2: packets at random."""
        chance = ("-m", "statistic", "--mode", "random", "--probability", f"{share}")
        for target in self.names:
            if target != source:
                dropping = ("-s", self.address(source), *chance, "-j", "DROP")
                run(*self.inside(target), "iptables", "-w", "-A", "INPUT", *dropping)

    def cut(self, one: str, other: str) -> None:
        """From now on the two do not reach each other."""
        self.drop(one, other)
        self.drop(other, one)

    def slow(self, name: str, rate: str) -> None:
        """From now on `name` sends no faster than `rate`, such as 1mbit."""
        shaping = ("root", "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms")
        run("tc", "-n", name, "qdisc", "replace", "dev", "eth0", *shaping)

    def heal(self) -> None:
        """Let everything through again."""
        for name in self.names:
            run(*self.inside(name), "iptables", "-w", "-F", "INPUT")
            run("tc", "-n", name, "qdisc", "replace", "dev", "eth0", "root", "pfifo")


@contextmanager
def mounted(*options: str | Path, at: Path) -> Iterator[None]:
    """Something mounted while the block lasts."""
    at.mkdir(exist_ok=True)
    run("mount", *options, at)
    try:
        yield
    finally:
        run("umount", "--lazy", at)


def fill(directory: Path) -> Path:
    """Use up what room is left there; the file that takes it."""
    path = directory / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 2**12):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return path
