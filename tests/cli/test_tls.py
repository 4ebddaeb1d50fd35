"""What a person at a terminal is told about certificates, and how they name their own authority."""

import asyncio
import shlex
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import DNSName

from tests.cli.commands import Person, Town
from tests.support.pki import HOUR, Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def guarded(tmp_path: Path, authority: Authority) -> Iterator[Town]:
    """A daemon that has a certificate and wants one."""
    chain, key = authority.server()
    home = tmp_path / "town"
    home.mkdir()
    town = Town(home, f"--tls-cert={chain}", f"--tls-key={key}", f"--tls-ca={authority.ca}")
    try:
        yield town
    finally:
        assert town.end() == 0


def test_the_authority_and_a_certificate_are_named_once_and_hold_for_all_commands(
    guarded: Town, authority: Authority, tmp_path: Path
) -> None:
    person = Person(tmp_path / "ada", guarded.url.replace("http://", "https://"))
    person.environment |= {"UNIBUS_CA": str(authority.ca), "UNIBUS_CLIENT_CERT": str(authority.client())}
    person.does("init", "ada", "--token-file", str(guarded.data_dir / "bootstrap-token"))
    person.does("room", "create", "ops")
    person.does("send", "ops", "over tls")
    assert "over tls" in person.does("tail", "ops", "--since", "start", "--count", "1")
    assert person.run("--json", "health").json[0]["tls"] is True


def test_the_command_in_the_greeting_names_what_tls_needs(guarded: Town, authority: Authority, tmp_path: Path) -> None:
    files = {"YOURS.pem": str(authority.client()), "AUTHORITY.pem": str(authority.ca), "YOUR-HANDLE": "ada"}
    command = [files.get(word, word) for word in shlex.split(guarded.greeting[-1])]
    assert Person(tmp_path / "town").does(*command[1:]).startswith("you are ada, the first admin of bus ")


@pytest.mark.parametrize(
    ("certificate", "remedy"),
    [
        ({"lasts": -HOUR}, "certificate has expired; its operator has to renew it, or this machine's clock is wrong"),
        ({"begins": HOUR}, "certificate is not yet valid; set this machine's clock right, or wait"),
        ({"host": DNSName("else.example")}, "'127.0.0.1'; dial a name that it has"),
    ],
)
def test_what_no_authority_mends_is_not_sought_with_one(
    authority: Authority, tmp_path: Path, certificate: dict[str, Any], remedy: str
) -> None:
    chain, key = authority.server(**certificate)
    person = Person(tmp_path / "eve")

    async def meet() -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        async with server:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            return await asyncio.to_thread(person.refused, "--ca", str(authority.ca), "--url", url, "health")

    assert asyncio.run(meet()).endswith(remedy)


def test_the_port_of_nats_is_told_from_that_of_http(tmp_path: Path) -> None:
    town = Town(tmp_path)
    try:
        (nats,) = (line.split()[1] for line in town.greeting if line.startswith("  nats"))
        person = Person(tmp_path / "eve", f"http://{nats}")
        for command in ("health", "posture"):
            said = person.run(command).err
            assert said.endswith("what answers speaks no http; name the daemon's http port, not that of nats\n")
            assert said.count("\n") == 1
    finally:
        town.end()


def test_what_is_missing_is_named_in_one_line(guarded: Town, authority: Authority, tmp_path: Path) -> None:
    person = Person(tmp_path / "eve", guarded.url.replace("http://", "https://"))
    for given, said in (
        ((), "; name its authority with --ca"),
        (("--url", person.environment["UNIBUS_URL"].replace("https", "http")), "if it has tls, its address begins"),
        (("--ca", str(authority.ca)), "if it wants a certificate of yours, name it with --client-cert"),
        (("--ca", str(tmp_path / "none")), "cannot use the authorities in"),
        (("--ca", str(authority.ca), "--client-cert", str(authority.ca)), "cannot use the certificate and key in"),
    ):
        ran = person.run(*given, "health")
        assert (ran.status, ran.err.count("\n")) == (1, 1)
        assert said in ran.err
