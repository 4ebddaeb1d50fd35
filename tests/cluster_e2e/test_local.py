"""`unibus cluster local` as a person types it: it says what to type next, and leaves nobody behind however it ends."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.commands import Person
from unibus.cluster.ports import free_ports

pytestmark = pytest.mark.slow

WAIT = 50.0


def running(base: Path) -> list[int]:
    """All processes, daemons and nats-servers, that work below `base`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue  # it ended while we looked
            if str(base).encode() in told and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def gone(base: Path) -> bool:
    """Whether all have ended, after a moment for the kernel to end them."""
    until = time.monotonic() + 5
    while running(base) and time.monotonic() < until:
        time.sleep(0.02)
    return not running(base)


@contextmanager
def local(person: Person, base: Path, port: int) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """The command, and what it has said once all is there."""
    process = person.start("cluster", "local", "--dir", str(base), "--base-port", str(port))
    lines: list[str] = []
    try:
        assert process.stdout is not None
        while "UNIBUS_URL" not in "".join(lines[-1:]):
            line = process.stdout.readline().decode()
            assert line, process.communicate()[1].decode()
            lines.append(line)
        yield process, lines
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def port() -> int:
    """The first of thirty ports of which nobody had one a moment ago."""
    for port in range(20000 + os.getpid() % 300 * 30, 60000, 30):
        if not set(range(port, port + 30)) & set(free_ports(1)):
            return port
    raise AssertionError("there are no free ports")


def test_a_cluster_is_tried_out_and_taken_up_again(tmp_path: Path, port: int) -> None:
    base, person = tmp_path / "cluster", Person(tmp_path / "home")
    with local(person, base, port) as (process, lines):
        assert [line.split()[0] for line in lines[:4]] == ["n1", "n2", "n3", "ca"]
        export = dict(part.split("=", 1) for part in lines[-1].split()[1:])
        person.environment |= export
        assert process.stdout is not None
        command = process.stdout.readline().decode().split()
        assert command[:2] == ["unibus", "init"]
        assert person.run("init", "ada", "--token-file", command[-1]).status == 0
        assert person.run("posture", *export["UNIBUS_URL"].split(",")).status == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 0
    assert gone(base)
    with local(person, base, port) as (process, lines):
        assert "ada" in person.run("user", "list").out
        process.kill()
        process.wait(WAIT)
        assert gone(base)


def test_a_port_that_is_taken_ends_all_with_words(tmp_path: Path, port: int) -> None:
    import socket

    with socket.create_server(("127.0.0.1", port + 10)):
        person = Person(tmp_path / "home")
        ran = person.run("cluster", "local", "--dir", str(tmp_path / "cluster"), "--base-port", str(port))
    assert ran.status == 1
    assert "n2 ended with status 1" in ran.err
    assert f"127.0.0.1:{port + 10}" in ran.err
    assert gone(tmp_path / "cluster")
