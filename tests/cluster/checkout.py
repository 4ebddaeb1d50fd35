"""An operator: a clone of the project with its tools, on a machine beside the hosts that `nodes.env` names.

What is typed is run by a shell in the clone, as it stands. Only the bundle is built outside, because the hosts' world
reaches no registry.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster.hosts import Hosts

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = Path(sys.executable).parent
BUNDLE = "deploy/cluster/build/bundle"
_FILES = (".gitignore", "LICENSE", "Makefile", "README.md", "pyproject.toml", "requirements.lock")
_MADE = ("__pycache__", "*.egg-info", "build", "out", "secrets", "tls")


def make_origin(at: Path) -> None:
    """A repository with what the tools need, as it is now, in one commit."""
    at.mkdir()
    for name in _FILES:
        shutil.copy(ROOT / name, at)
    for name in ("src", "deploy"):
        shutil.copytree(ROOT / name, at / name, ignore=shutil.ignore_patterns(*_MADE))
    git(at, "init", "--quiet")
    commit(at, "all there is")


def commit(at: Path, what: str) -> None:
    """Commit everything."""
    git(at, "add", "--all")
    git(at, "-c", "user.name=ada", "-c", "user.email=ada@bus.example", "commit", "--quiet", "-m", what)


def git(at: Path, *arguments: str | Path) -> None:
    """A command of git that has to succeed, whatever the machine's own settings are."""
    own = {"HOME": str(at), "PATH": os.defpath, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *arguments], cwd=at, env=own, check=True)  # noqa: S607 - the git of the path


def build_bundle(checkout: Path) -> None:
    """Build the bundle of a clone, where the registry is reached."""
    command: list[str | Path] = [PROGRAMS / "unibus", "cluster", "--dir", checkout / "deploy", "bundle"]
    subprocess.run(command, check=True, capture_output=True, timeout=600)


class Operator:
    """Works in the clone `checkout` of the repository `origin`; `bundle` is one that was built of it before."""

    def __init__(self, home: Path, origin: Path, bundle: Path, hosts: Hosts) -> None:
        self.home, self.origin, self.hosts = home, origin, hosts
        self.checkout = home / "checkout"
        self.base = self.checkout / "deploy"
        self.settings = {"HOME": str(home), "PATH": f"{home}/bin:{os.defpath}", "GIT_CONFIG_NOSYSTEM": "1"}
        git(home, "clone", "--quiet", origin, self.checkout)
        shutil.copytree(bundle, self.checkout / BUNDLE)
        tools, own = self.checkout / ".venv/bin", home / "bin"
        for directory in (tools, own):
            directory.mkdir(parents=True)
        (tools / "unibus").symlink_to(PROGRAMS / "unibus")
        (tools.parent / ".installed").touch()
        (own / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F "{hosts.ssh_config}" "$@"\n')
        (own / "ssh").chmod(0o755)

    def types(self, command: str) -> subprocess.CompletedProcess[str]:
        """Type a command into a shell in the clone; how it ended."""
        settings = [f"{name}={value}" for name, value in self.settings.items()]
        shell = ["env", "-i", "-C", str(self.checkout), *settings, "bash", "-u", "-o", "pipefail", "-c", command]
        return self.hosts.run(*shell)

    def does(self, command: str) -> subprocess.CompletedProcess[str]:
        """Type a command that has to succeed."""
        outcome = self.types(command)
        assert outcome.returncode == 0, f"{command}: {outcome.stdout}{outcome.stderr}{self._logs()}"
        return outcome

    def refused(self, command: str) -> str:
        """What a command says that has to refuse."""
        outcome = self.types(command)
        assert outcome.returncode == 1, f"{command}: {outcome.stdout}{outcome.stderr}"
        return outcome.stderr

    def is_green(self) -> bool:
        """Whether all nodes are as they should be, within a minute."""
        until = time.monotonic() + 60
        while (outcome := self.types(POSTURE)).returncode:
            assert time.monotonic() < until, outcome.stdout + outcome.stderr + self._logs()
            time.sleep(0.5)
        return True

    def _logs(self) -> str:
        journal = "journalctl --no-pager --lines 8 --unit membershipd-cluster || true"
        return "".join(f"\n{name}:\n{self.hosts.on(name, journal)}" for name in self.hosts.running)


POSTURE = ".venv/bin/unibus --ca deploy/tls/ca.crt posture deploy/cluster/nodes.env"
