"""The real commands as a person types them: own home, own working directory, an environment of nothing else."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNIBUS = Path(sys.executable).parent / "unibus"
DAEMON = Path(sys.executable).parent / "unibus-membershipd"
WAIT = 30.0  # seconds that one command may take


@dataclass(frozen=True)
class Ran:
    """How a command ended: its exit status and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> list[Any]:
        """The values on standard output, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Person:
    """Somebody at a terminal with an identity of their own; `at` is where their daemon is, or "" for nowhere said."""

    def __init__(self, home: Path, at: str = "") -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        self.environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}
        if at:
            self.environment["UNIBUS_URL"] = at

    @property
    def identity(self) -> Path:
        return self.home / ".config" / "unibus" / "identity.nk"

    def write(self, name: str, content: str | bytes, mode: int = 0o600) -> Path:
        """A file in the person's home."""
        path = self.home / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    def start(self, *arguments: str | bytes, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        """Begin a command, with pipes to talk to it."""
        return subprocess.Popen(
            [UNIBUS, *arguments],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
            preexec_fn=os.setpgrp,  # noqa: PLW1509 - one thread; a signal must reach this command only
        )

    def end(self, process: subprocess.Popen[bytes], stdin: bytes = b"") -> Ran:
        """Wait for a command's end. Nothing may ever show a traceback."""
        try:
            out, err = process.communicate(stdin, timeout=WAIT)
        finally:
            process.kill()
            process.wait()
        ran = Ran(process.returncode, (out or b"").decode(), err.decode())
        assert "Traceback" not in ran.err, ran.err
        assert "never retrieved" not in ran.err, ran.err
        return ran

    def run(self, *arguments: str | bytes, stdin: bytes = b"") -> Ran:
        """Run a command to its end."""
        return self.end(self.start(*arguments), stdin)

    def does(self, *arguments: str | bytes, stdin: bytes = b"") -> str:
        """What a command prints that has to succeed and to have nothing to remark but a first contact."""
        ran = self.run(*arguments, stdin=stdin)
        assert ran.status == 0, ran
        assert all(line.startswith("this is bus ") for line in ran.err.splitlines()), ran
        return ran.out

    def values(self, *arguments: str, stdin: bytes = b"") -> list[Any]:
        """What a command prints with --json."""
        return [json.loads(line) for line in self.does("--json", *arguments, stdin=stdin).splitlines()]

    def refused(self, *arguments: str | bytes, stdin: bytes = b"", status: int = 1) -> str:
        """The one line of a command that has to fail, without its `unibus: `."""
        ran = self.run(*arguments, stdin=stdin)
        assert ran.status == status, ran
        assert ran.out == ""
        (line,) = (line for line in ran.err.splitlines() if not line.startswith("this is bus "))
        assert line.startswith("unibus: ")
        return line.removeprefix("unibus: ")


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C."""
    process.send_signal(signal.SIGINT)


class Town:
    """A daemon process on free ports, whose greeting was read to its end."""

    def __init__(self, home: Path, *flags: str) -> None:
        self.data_dir = home / "local_files"
        self.process = subprocess.Popen(
            [DAEMON, "--http-bind", "127.0.0.1:0", "--nats-bind", "127.0.0.1:0", *flags],
            cwd=home,
            env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.greeting: list[str] = []
        for line in self.process.stdout:
            self.greeting.append(line.rstrip("\n"))
            if " init " in line:
                break
        else:
            self.end()
            raise AssertionError("the daemon did not start")
        (where,) = (line.split()[1] for line in self.greeting if line.startswith("  http"))
        self.url = f"http://{where}"

    def end(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.terminate()
        try:
            status = self.process.wait(WAIT)
        finally:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
        return status
