"""The flags of a cluster: what would make it weak, or cannot work, is refused by its reason, and no secret shows."""

from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from unibus.daemon import cluster_options
from unibus.daemon.cluster_options import Given, Typed, is_own, is_strong, read, replicas
from unibus.daemon.options import flags
from unibus.errors import StartRefused

SECRET = "8d1f0c6b2e97a354" * 4
ABROAD = "nats://10.0.0.2:6250,nats://10.0.0.3"
NEAR = "nats://127.0.0.1:6251,nats://localhost:6252"


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(SECRET + "\n")
    return path


def check(given: Given, *, node: str = "one", bus_auth: str = "enforce", store: str = "kv") -> object:
    return read(given, node=node, bus_auth=bus_auth, store=store, external=False)


def near(file: Path, /, **changed: object) -> Given:
    told = {"name": "trio", "bind": "127.0.0.1:6250", "routes": NEAR, "secret_file": file, **changed}
    return Given(**told)  # type: ignore[arg-type]  # the rows change single ones, each to what its flag takes


def test_a_cluster_on_loopback_needs_no_certificates(secret_file: Path) -> None:
    found = read(near(secret_file), node="one", bus_auth="enforce", store="kv", external=False)
    assert found is not None
    assert (found.name, found.bind, found.tls, found.warnings) == ("trio", ("127.0.0.1", 6250), None, ())
    assert found.peers == (("127.0.0.1", 6251), ("localhost", 6252))
    assert found.secret == SECRET
    assert SECRET not in repr(found)


def test_bare_routes_get_the_usual_port_and_lose_this_node_itself(secret_file: Path) -> None:
    tls = {"certificate": Path("c"), "key": Path("k"), "authorities": Path("a")}
    given = near(secret_file, bind="10.0.0.2:6250", routes=ABROAD, **tls)
    found = read(given, node="one", bus_auth="enforce", store="kv", external=False)
    assert found is not None
    assert found.peers == (("10.0.0.3", 6250),)
    assert found.tls is not None


@pytest.mark.parametrize(
    ("place", "bind", "own"),
    [
        ("127.0.2.1", "127.0.2.1", True),
        ("127.0.2.2", "127.0.2.1", False),
        ("127.0.2.2", "::", True),
        ("localhost", "127.0.0.1", True),
        ("localhost", "127.0.2.1", False),
        ("localhost", "::", True),
        ("fd00:0::2", "fd00::2", True),
        ("10.0.0.2", "::", False),
        ("homer.example", "homer.example", True),
    ],
)
def test_each_loopback_address_is_a_place_of_its_own(place: str, bind: str, own: bool) -> None:
    assert is_own((place, 6250), (bind, 6250)) is own
    assert not is_own((place, 6251), (bind, 6250))


def test_nodes_on_one_port_of_several_loopback_addresses_are_a_cluster(secret_file: Path) -> None:
    given = near(secret_file, bind="127.0.2.1:6250", routes="nats://127.0.2.1,nats://127.0.2.2,nats://127.0.2.3")
    found = read(given, node="one", bus_auth="enforce", store="kv", external=False)
    assert found is not None
    assert found.peers == (("127.0.2.2", 6250), ("127.0.2.3", 6250))


def test_no_name_means_no_cluster() -> None:
    assert check(Given(), node="unibus", bus_auth="off", store="sqlite") is None
    assert check(Given(secret=Typed(SECRET, on_command_line=False))) is None


Row = tuple[Callable[[Path], object], str]
REFUSED: dict[str, Row] = {
    "weak auth": (lambda file: check(near(file), bus_auth="warn"), "--bus-auth enforce"),
    "no auth": (lambda file: check(near(file), bus_auth="off"), "--bus-auth enforce"),
    "sqlite": (lambda file: check(near(file), store="sqlite"), "--store kv"),
    "no node name": (lambda file: check(near(file), node="unibus"), "--node-name"),
    "name": (lambda file: check(near(file, name="Trio!")), "--cluster-name takes"),
    "flag without a name": (lambda file: check(near(file, name=None)), "--cluster-name"),
    "no routes": (lambda file: check(near(file, routes=None)), "--routes"),
    "itself": (lambda file: check(near(file, routes="nats://127.0.0.1:6250,nats://localhost")), "only to this node"),
    "itself, any": (
        lambda file: check(near(file, bind="0.0.0.0:6250", routes="nats://127.0.0.1")),
        "only to this node",
    ),
    "scheme": (lambda file: check(near(file, routes="http://127.0.0.1:6251")), "--routes takes"),
    "no scheme": (lambda file: check(near(file, routes="127.0.0.1:6251")), "--routes takes"),
    "path": (lambda file: check(near(file, routes="nats://127.0.0.1:6251/x")), "--routes takes"),
    "port": (lambda file: check(near(file, routes="nats://127.0.0.1:0")), "--routes takes"),
    "port too high": (lambda file: check(near(file, routes="nats://127.0.0.1:99999")), "--routes takes"),
    "bracket": (lambda file: check(near(file, routes="nats://[::1")), "--routes takes"),
    "bind": (lambda file: check(near(file, bind="127.0.0.1")), "--cluster-bind takes"),
    "bind to any port": (lambda file: check(near(file, bind="127.0.0.1:0")), "--cluster-bind takes"),
    "public bind": (lambda file: check(near(file, bind=None)), "routes over 0.0.0.0 need certificates"),
    "public bind, IPv6": (lambda file: check(near(file, bind="[::]:6250")), "routes over :: need certificates"),
    "public route": (lambda file: check(near(file, routes=ABROAD)), "routes over 10.0.0.2 need certificates"),
    "half of tls": (lambda file: check(near(file, certificate=Path("c"), key=Path("k"))), "name all three"),
    "no secret": (lambda file: check(near(file, secret_file=None)), "--cluster-pass-file"),
    "secret missing": (lambda file: check(near(file.with_name("none"))), "cannot read --cluster-pass-file"),
    "two secrets": (lambda file: check(near(file, secret=Typed("other" * 9, on_command_line=False))), "differs"),
    "external": (
        lambda file: read(near(file), node="one", bus_auth="enforce", store="kv", external=True),
        "--nats-url",
    ),
    "even": (lambda _: replicas(2, store="kv", clustered=True), "takes 1, 3 or 5"),
    "seven": (lambda _: replicas(7, store="kv", clustered=True), "takes 1, 3 or 5"),
    "none": (lambda _: replicas(0, store="kv", clustered=True), "takes 1, 3 or 5"),
    "three alone": (lambda _: replicas(3, store="kv", clustered=False), "--cluster-name"),
    "three in a file": (lambda _: replicas(3, store="sqlite", clustered=False), "--store kv"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_what_is_weak_or_cannot_work_is_refused_by_its_reason(secret_file: Path, row: str) -> None:
    attempt, reason = REFUSED[row]
    with pytest.raises(StartRefused) as refused:
        attempt(secret_file)
    assert reason in refused.value.message
    assert SECRET not in refused.value.message


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_secret_that_others_can_read_is_refused(secret_file: Path, mode: int) -> None:
    secret_file.chmod(mode)
    with pytest.raises(StartRefused, match="chmod 600"):
        check(near(secret_file))


@pytest.mark.parametrize(
    ("secret", "strong"),
    [
        (SECRET, True),
        ("0123456789abcdef" * 2, True),
        ("0123456789abcdef" * 2 + "0123", True),
        ("0123456789abcdef0123456789abcde", False),  # hexadecimal digits, of four bits each
        ("1234567890" * 3, False),
        ("1234567890" * 4, True),
        ("Zm9vYmFyYmF6cXV4Zm9vYm", True),
        ("Zm9vYmFyYmF6cXV4Zm9vY", False),
        ("a" * 64, False),
        ("abababababababababababababababab", False),
        ("hunter2", False),
        ("", False),
    ],
)
def test_the_strength_of_a_secret(secret: str, strong: bool) -> None:
    assert is_strong(secret) is strong


@pytest.mark.parametrize("content", ["short", "a" * 64, f"$2a${SECRET}", f"{SECRET} {SECRET}", f"{SECRET}\n{SECRET}"])
def test_a_weak_or_odd_secret_is_refused_without_showing_it(secret_file: Path, content: str) -> None:
    secret_file.write_text(content)
    with pytest.raises(StartRefused, match="openssl rand -hex 32") as refused:
        check(near(secret_file))
    assert content not in refused.value.message


def test_a_secret_in_the_routes_works_with_a_warning(secret_file: Path) -> None:
    routes = f"nats://any:{SECRET}@127.0.0.1:6251,nats://{SECRET}@127.0.0.1:6252"
    for given in (near(secret_file, routes=routes), near(secret_file, routes=routes, secret_file=None)):
        found = read(given, node="one", bus_auth="enforce", store="kv", external=False)
        assert found is not None
        assert found.secret == SECRET
        (warning,) = found.warnings
        assert "--routes" in warning
        assert SECRET not in warning


def given_to(arguments: list[str], environment: dict[str, str]) -> Typed | None:
    """What click makes of the flags, as the daemon's command has them."""
    seen: list[Typed | None] = []

    @click.command(context_settings={"auto_envvar_prefix": "UNIBUS"})
    @flags
    def command(cluster_pass: Typed | None, **_others: object) -> None:
        seen.append(cluster_pass)

    assert CliRunner().invoke(command, arguments, env=environment).exit_code == 0
    return seen[0]


def test_a_secret_on_the_command_line_is_told_from_one_in_the_environment(secret_file: Path) -> None:
    typed = given_to(["--cluster-pass", SECRET], {})
    inherited = given_to([], {"UNIBUS_CLUSTER_PASS": SECRET})
    assert typed == Typed(SECRET, on_command_line=True)
    assert inherited == Typed(SECRET, on_command_line=False)
    assert SECRET not in repr(typed)
    assert given_to([], {}) is None
    for secret, warned in ((typed, 1), (inherited, 0)):
        found = cluster_options.read(
            near(secret_file, secret_file=None, secret=secret),
            node="one",
            bus_auth="enforce",
            store="kv",
            external=False,
        )
        assert found is not None
        assert len(found.warnings) == warned


def test_how_many_copies_there_are_when_nobody_says() -> None:
    assert replicas(None, store="sqlite", clustered=False) == 1
    assert replicas(None, store="kv", clustered=False) == 1
    assert replicas(None, store="kv", clustered=True) == 3
    assert replicas(1, store="kv", clustered=True) == 1
    assert replicas(5, store="kv", clustered=True) == 5
