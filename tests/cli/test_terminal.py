"""What a person sees only at a terminal or when something is amiss: progress bars, answers, a degraded node."""

import asyncio
import os
import pty
import subprocess
import threading
from datetime import timedelta
from pathlib import Path

from tests.cli.commands import UNIBUS, WAIT, Person, Town
from tests.cli.conftest import Newcomer
from tests.support.pki import Authority
from unibus import connect
from unibus.client.identity_file import load_identity, state_path


def at_a_terminal(person: Person, *arguments: str) -> tuple[str, str]:
    """What a command prints on standard output, and what on the terminal that its standard error is."""
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read() -> None:
        try:
            while block := os.read(ours, 65536):
                shown.extend(block)
        except OSError:
            return  # EIO: the other side is closed

    reading = threading.Thread(target=read)
    reading.start()
    try:
        ran = subprocess.run(
            [UNIBUS, *arguments],
            cwd=person.home,
            env=person.environment | {"TERM": "xterm-256color", "COLUMNS": "100"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=WAIT,
            check=True,
        )
    finally:
        os.close(theirs)
        reading.join()
        os.close(ours)
    return ran.stdout.decode(), shown.decode()


def test_files_have_a_progress_bar_on_a_terminal_and_nowhere_else(ada: Person, room: str) -> None:
    ada.write("film\x1b[2J.bin", os.urandom(3_000_000))
    out, shown = at_a_terminal(ada, "blob", "put", room, "film\x1b[2J.bin", "--name", "film.bin")
    assert out.startswith("stored film.bin\n")
    assert "film.bin" in shown
    assert "3.0/3.0 MB" in shown
    assert "━" in shown
    out, shown = at_a_terminal(ada, "blob", "get", room, "film.bin", "back")
    assert out == "fetched back, 3000000 bytes, from ada\n"
    assert "3.0/3.0 MB" in shown
    assert ada.run("blob", "get", room, "film.bin", "again").err == ""


def test_a_question_is_answered(ada: Person, newcomer: Newcomer, room: str) -> None:
    hal = newcomer("hal")
    ada.does("room", "add", room, "hal")
    listening = threading.Event()

    async def answer() -> None:
        async with connect(
            ada.environment["UNIBUS_URL"], load_identity(hal.identity), state=state_path(hal.identity)
        ) as bus:
            number = 0
            questions = (await bus.room(room)).questions()
            task = asyncio.ensure_future(anext(questions))
            listening.set()
            while number < 2:
                question = await task
                await question.answer([b"it is \x1b[2J noon", b"\xff\xfe"][number])
                number += 1
                task = asyncio.ensure_future(anext(questions)) if number < 2 else task
            await questions.aclose()

    answering = threading.Thread(target=lambda: asyncio.run(answer()))
    answering.start()
    listening.wait(WAIT)
    assert ada.does("ask", room, "hal", "what", "time?", "--deadline", "20") == "it is \\x1b[2J noon\n"
    (said,) = ada.values("ask", room, "hal", "and raw?")
    assert said == {"handle": "hal", "base64": "//4="}
    answering.join(WAIT)


def test_health_of_a_degraded_node_exits_with_1(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    chain, key = authority.server(lasts=timedelta(days=6))
    (home := tmp_path / "town").mkdir()
    town = Town(home, f"--tls-cert={chain}", f"--tls-key={key}")
    try:
        person = Person(tmp_path / "person", town.url.replace("http://", "https://"))
        ran = person.run("--ca", str(authority.ca), "health")
        assert ran.status == 1
        rows = [line.split(maxsplit=1) for line in ran.out.splitlines()]
        assert ["status", "degraded"] in rows
        assert any(name == "reasons" and text.startswith("the certificate expires on") for name, text in rows)
        assert ran.err == ""
        found = person.run("--json", "--ca", str(authority.ca), "health")
        assert (found.status, found.json[0]["status"]) == (1, "degraded")
    finally:
        assert town.end() == 0
