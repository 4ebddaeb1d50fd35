"""What a person at a terminal is told about certificates, and how they name their own authority."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import Person, Town
from tests.support.pki import Authority


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
