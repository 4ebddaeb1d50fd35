"""The flags about NATS: which addresses are taken, and what does not go together."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from unibus.crypto.nkeys import SigningKey, encode_public, encode_seed
from unibus.daemon.main import command
from unibus.daemon.nats_options import BIND, CONNECTIONS, NatsLimits, NatsUrl, nats_limits, parse_url
from unibus.daemon.options import check
from unibus.errors import StartRefused

OPERATOR, ANOTHER = (SigningKey.from_seed(bytes([number]) * 32).public for number in (1, 2))
GIVEN: dict[str, Any] = {
    "http_bind": "127.0.0.1:0",
    "nats_bind": BIND,
    "data_dir": Path("data"),
    "bus_auth": "enforce",
    "store": "sqlite",
    "nats_url": None,
    "nats_server": None,
    "node_name": "here",
}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("nats://127.0.0.1", NatsUrl("127.0.0.1", 4222, False, None)),
        ("nats://127.8.9.1:1/", NatsUrl("127.8.9.1", 1, False, None)),
        ("nats://[::1]:4333", NatsUrl("::1", 4333, False, None)),
        ("nats://localhost:4222", NatsUrl("localhost", 4222, False, None)),
        ("tls://nats.example:443", NatsUrl("nats.example", 443, True, None)),
        ("tls://10.0.0.1", NatsUrl("10.0.0.1", 4222, True, None)),
    ],
)
def test_addresses_that_are_taken(text: str, place: NatsUrl) -> None:
    assert parse_url(text, None) == place


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nats://nats.example", "to another host needs tls: write tls://nats.example:4222"),
        ("nats://10.0.0.1:4222", "needs tls"),
        ("nats://0.0.0.0:4222", "needs tls"),
        ("nats://localhost.example:4222", "needs tls"),
        ("nats://127.0.0.1.example", "needs tls"),
        ("nats://user:secret@127.0.0.1", "takes no user and no password"),
        ("tls://token@nats.example", "takes no user and no password"),
        ("http://127.0.0.1", "takes tls://HOST:PORT"),
        ("ws://127.0.0.1", "takes tls://HOST:PORT"),
        ("127.0.0.1:4222", "takes tls://HOST:PORT"),
        ("nats://", "takes tls://HOST:PORT"),
        ("nats://127.0.0.1:99999", "takes tls://HOST:PORT"),
        ("nats://127.0.0.1/x", "takes tls://HOST:PORT"),
        ("tls://a.example?x=1", "takes tls://HOST:PORT"),
        ("nats://[::1", "takes tls://HOST:PORT"),
    ],
)
def test_addresses_that_are_refused(text: str, told: str) -> None:
    with pytest.raises(StartRefused, match=told) as refused:
        parse_url(text, None)
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    ("more", "flag"),
    [
        ({"nats_bind": "127.0.0.1:4250"}, "--nats-bind"),
        ({"nats_server": Path("nats-server")}, "--nats-server"),
        ({"nats_ws_bind": "127.0.0.1:0"}, "--nats-ws-bind"),
        ({"max_nats_connections": 20}, "--max-nats-connections"),
        ({"nats_max_store": "1G"}, "--nats-max-store"),
        ({"nats_operators": [OPERATOR]}, "--nats-operator"),
    ],
)
def test_what_is_for_an_own_server_is_refused_beside_another(more: dict[str, Any], flag: str) -> None:
    with pytest.raises(StartRefused, match=f"{flag} is for a nats-server of the daemon's own"):
        check(**{**GIVEN, "nats_url": "nats://127.0.0.1", **more})


def test_the_place_of_another_server_is_what_is_told() -> None:
    found = check(**{**GIVEN, "nats_url": "nats://127.0.0.1:4333"})
    assert (found.nats_host, found.nats_port, found.nats_url) == (
        "127.0.0.1",
        4333,
        NatsUrl("127.0.0.1", 4333, False, None),
    )
    assert check(**GIVEN).nats_url is None


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"nats_ca": Path("ca")}, "--nats-ca is for --nats-url"),
        ({"nats_ca": Path("ca"), "nats_url": "nats://127.0.0.1"}, "--nats-ca is for tls://"),
        ({"nats_max_store": "much"}, "--nats-max-store: a size is"),
        ({"nats_max_store": "1M"}, "--nats-max-store takes at least 64M"),
    ],
)
def test_what_means_nothing_is_refused(more: dict[str, Any], told: str) -> None:
    with pytest.raises(StartRefused, match=told):
        check(**{**GIVEN, **more})


def test_limits() -> None:
    assert nats_limits(CONNECTIONS, None) == NatsLimits()
    assert nats_limits(20, "2G") == NatsLimits(20, 2 << 30)


def test_operators_are_public_keys_each_once() -> None:
    assert check(**GIVEN).nats_operators == ()
    assert check(**GIVEN, nats_operators=[OPERATOR, ANOTHER, OPERATOR]).nats_operators == (OPERATOR, ANOTHER)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "U",
        "admin",
        OPERATOR.lower(),
        OPERATOR[:-1] + "A",
        encode_public("A", bytes(32)),
        encode_seed("U", bytes(32)),
    ],
)
def test_what_is_no_operators_key(key: str) -> None:
    with pytest.raises(StartRefused, match="--nats-operator takes a public user nkey") as refused:
        check(**GIVEN, nats_operators=[OPERATOR, key])
    assert not key or key not in refused.value.message.removeprefix("--nats-operator takes a public user nkey (U…)")


def test_the_variable_takes_several_keys(tmp_path: Path) -> None:
    keys = {"UNIBUS_NATS_OPERATOR": f"{OPERATOR} {ANOTHER}"}
    for url, refused in (
        (["--nats-url", "nats://127.0.0.1"], "--nats-operator is for"),
        (["--nats-ca", "x"], "--nats-ca"),
    ):
        told = CliRunner().invoke(command, ["--data-dir", str(tmp_path / "data"), *url], env=keys)
        assert (told.exit_code, refused in told.output) == (1, True), told.output
