"""A real `systemd --user` of an unprivileged user, in namespaces of its own: for tests of what a user can install.

Needs root, systemd, dbus-user-session and iproute2 (tests/debian-packages-hosts.txt). Leaves nothing on the machine.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.cgroups import cgroups, remove_cgroup

USER, UID = "tester", 4250
WAIT = 30.0
HOST_ADDRESS = "10.250.0.1"
PYTHON = Path(sys.executable).resolve()
_SCRIPT = Path(__file__).with_name("user-manager.sh")


def until(seen: Callable[[], bool], what: str, seconds: float = WAIT) -> None:
    """Return once `seen`; fail, saying `what` was waited for, if that takes too long."""
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, f"waited in vain for: {what}"
        time.sleep(0.05)


class UserManager:
    """The host and its user's systemd while entered; `home` is the user's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.services = home / ".config" / "systemd" / "user"
        self._cgroup = cgroups() / f"unibus-test-{os.getpid()}-{time.monotonic_ns()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._init = ""

    def __enter__(self) -> Self:
        self.home.mkdir(exist_ok=True)
        os.chown(self.home, UID, UID)
        self._cgroup.mkdir()
        joined = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
        namespaces = ("unshare", "--cgroup", "--mount", "--net", "--pid", "--fork", "--kill-child")
        command: tuple[str | Path, ...] = ("/bin/sh", "-c", joined, "sh", self._cgroup, *namespaces)
        self._process = subprocess.Popen((*command, "sh", _SCRIPT, USER, str(UID), self.home, PYTHON.parent.parent))
        try:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            until(lambda: bool(children.read_text().split()), "a process in the namespaces")
            [self._init] = children.read_text().split()
            until(self._is_up, "systemd --user")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, *command: str | Path, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as the user, in the user's session, and return when it has ended; its outcome."""
        session = {
            "HOME": str(self.home),
            "USER": USER,
            "PATH": "/usr/bin:/bin",
            "XDG_RUNTIME_DIR": f"/run/user/{UID}",
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path=/run/user/{UID}/bus",
        }
        environment = [f"{name}={value}" for name, value in (session | variables).items()]
        becoming = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "env", "-i", *environment]
        return self.run_as_root(*becoming, *command, check=check)

    def run_as_root(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The same as the host's root."""
        inside: list[str | Path] = ["nsenter", "--target", self._init, "--all", *command]
        outcome = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=2 * WAIT, cwd="/")
        assert not check or outcome.returncode == 0, f"{command}: {outcome.stdout}{outcome.stderr}"
        return outcome

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, as systemd says it."""
        return self.run("systemctl", "--user", "show", "--value", "--property", name, unit).stdout.strip()

    def process(self, unit: str, name: str) -> int | None:
        """The number, inside the host, of the one process of that name in a unit; None if there is none now."""
        group = f"/sys/fs/cgroup{self.show(unit, 'ControlGroup')}/cgroup.procs"
        for pid in self.run_as_root("cat", group, check=False).stdout.split():
            if self.run_as_root("cat", f"/proc/{pid}/comm", check=False).stdout.strip() == name:
                return int(pid)
        return None

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the user manager ended"
        asked = self.run("systemctl", "--user", "is-system-running", check=False)
        return asked.stdout.strip() == "running"

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()  # unshare takes its child along, and with that all in its process namespace
            self._process.wait()
        remove_cgroup(self._cgroup)
