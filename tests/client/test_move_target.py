"""Where a bus may be moved: over loopback, or over TLS to whom the operator named, and to one node at a time."""

from pathlib import Path

import pytest

from unibus.client.move_target import target_url
from unibus.errors import InvalidInput

CA = Path("authority.pem")


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8470", "http://127.9.8.7:1", "http://[::1]:8470", "http://localhost:8470", "https://localhost"],
)
def test_on_the_same_machine_nothing_more_is_needed(url: str) -> None:
    assert str(target_url(url, None)).startswith(url)


def test_another_machine_takes_tls_and_a_named_authority() -> None:
    assert target_url("https://node.example:8470", CA).host == "node.example"


@pytest.mark.parametrize(
    "host",
    [
        "node.example",
        "192.0.2.1",
        "10.0.0.1",
        "169.254.0.1",
        "0.0.0.0",  # noqa: S104 - dialled, not bound
        "[fe80::1]",
        "localhost.example",
        "127.0.0.1.example",
        "[::ffff:192.0.2.1]",
    ],
)
def test_nothing_travels_in_the_clear_or_to_just_anybody(host: str) -> None:
    for ca in (None, CA):
        with pytest.raises(InvalidInput, match="in the clear"):
            target_url(f"http://{host}:8470", ca)
    with pytest.raises(InvalidInput, match="--ca"):
        target_url(f"https://{host}:8470", None)


def test_a_token_is_one_nodes() -> None:
    with pytest.raises(InvalidInput, match="one of its nodes"):
        target_url("http://127.0.0.1:1,http://127.0.0.1:2", None)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8470", "ftp://127.0.0.1", "http://127.0.0.1@node.example"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        target_url(url, CA)
