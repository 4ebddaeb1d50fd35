"""TLS on both planes and over WebSockets: who is let in, what is refused and by which name, with real certificates."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import nats.errors
import pytest
from nats.aio.client import Client as Nats

from tests.builders import identity
from tests.e2e.conftest import StartDaemon
from tests.support.daemon import Daemon, refused
from tests.support.people import WAIT, tail
from tests.support.pki import HOUR, Authority
from tests.support.processes import nats_servers
from unibus import Bus, connect
from unibus.client.connection import Client
from unibus.client.founding import found_bus
from unibus.client.health import fetch_health
from unibus.client.joining import join_bus
from unibus.client.trust import make_context
from unibus.errors import CertificateRefused, InvalidInput, Unreachable
from unibus.model.subjects import inbox_prefix


@dataclass(frozen=True)
class Safe:
    """A daemon with certificates of `authority`, as people with `tls` see it."""

    daemon: Daemon
    authority: Authority
    tls: ssl.SSLContext

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.daemon.http_port}"

    async def found(self) -> None:
        token = (self.daemon.data_dir / "bootstrap-token").read_text().strip()
        await found_bus(self.url, identity("ada"), token, "ada", tls=self.tls)

    @asynccontextmanager
    async def enter(self, name: str = "ada") -> AsyncIterator[Bus]:
        async with connect(self.url, identity(name), tls=self.tls) as bus:
            yield bus

    async def view(self) -> dict[str, object]:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.tls)) as session,
            session.get(f"{self.url}/v1/bus") as response,
        ):
            view: dict[str, object] = await response.json()
            return view


def flags(pair: tuple[Path, Path], *more: str | Path) -> list[str]:
    """The daemon's flags for a certificate and its key."""
    return ["--tls-cert", str(pair[0]), "--tls-key", str(pair[1]), *map(str, more)]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
async def safe(start_daemon: StartDaemon, authority: Authority) -> Safe:
    """A daemon with TLS and a WebSocket listener, and a bus that ada founded."""
    daemon = await start_daemon(*flags(authority.server(), "--nats-ws-bind", "127.0.0.1:0"))
    safe = Safe(daemon, authority, make_context(authority.ca))
    await safe.found()
    return safe


async def nats_connection(
    url: str, tls: ssl.SSLContext | None, *, first: bool = False, complaints: asyncio.Queue[str] | None = None
) -> Nats:
    """A stock connection as ada, over whatever `url` says; what the server holds against it goes to `complaints`."""
    client = Client(identity("ada").signing)

    async def complain(error: Exception) -> None:
        if complaints is not None:
            complaints.put_nowait(str(error))

    try:
        await client.connect(
            url,
            signature_cb=client.prove,
            tls=tls,
            tls_handshake_first=first,
            inbox_prefix=inbox_prefix(identity("ada").user).encode(),
            allow_reconnect=False,
            max_reconnect_attempts=1,
            connect_timeout=5,
            error_cb=complain,
        )
    except ssl.SSLError:
        raise  # the socket is closed by then, and nats-py's close would wait for that without end
    except BaseException:
        await client.close()
        raise
    return client


async def test_founding_and_joining_take_an_authority_and_no_context_that_trusts_anybody(
    start_daemon: StartDaemon, authority: Authority
) -> None:
    daemon = await start_daemon(*flags(authority.server()))
    url, ada, bob = f"https://127.0.0.1:{daemon.http_port}", identity("ada"), identity("bob")
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    token = (daemon.data_dir / "bootstrap-token").read_text().strip()
    with pytest.raises(InvalidInput, match="any certificate"):
        await found_bus(url, ada, token, "ada", tls=careless)
    bus = await found_bus(url, ada, token, "ada", ca=authority.ca)
    async with connect(url, ada, ca=authority.ca) as at_ada:
        invite = await at_ada.invite(handle="bob")
    with pytest.raises(InvalidInput, match="any certificate"):
        await join_bus(invite, bob, None, tls=careless)
    assert await join_bus(invite, bob, None, ca=authority.ca) == "bob"
    async with connect(url, bob, ca=authority.ca) as at_bob:
        assert at_bob.id == bus


async def test_messages_travel_over_tls_and_health_reads_it_back(safe: Safe) -> None:
    async with asyncio.timeout(WAIT), safe.enter() as ada:
        room = await ada.create_room("ops")
        async with tail(room) as reading:
            await room.send("over tls")
            assert await reading.until(1) == ["over tls"]
    shown = await fetch_health(safe.url, 5, safe.tls)
    assert (shown["status"], shown["tls"], shown["bus"]["tls"]) == ("ok", True, True)
    assert shown["tls_expires"].startswith("20")
    assert "tls_until" not in shown["bus"]  # the same, in seconds
    assert str(shown["bus"]["websocket"]).startswith("wss://127.0.0.1:")
    view = await safe.view()
    assert (view["nats_tls"], isinstance(view["nats_ws_port"], int)) == (True, True)


@pytest.mark.parametrize("first", [True, False], ids=["handshake first", "info first"])
async def test_stock_clients_connect_in_either_way(safe: Safe, first: bool) -> None:
    client = await nats_connection(f"tls://127.0.0.1:{safe.daemon.nats_port}", safe.tls, first=first)
    assert client.is_connected
    await client.close()


async def test_an_authority_that_is_not_trusted_is_refused_on_both_planes(safe: Safe, tmp_path: Path) -> None:
    other = make_context(Authority(tmp_path / "other").ca)
    async with asyncio.timeout(WAIT):
        with pytest.raises(CertificateRefused, match="unable to get local issuer"):
            async with connect(safe.url, identity("ada"), tls=other):
                pass
        with pytest.raises(CertificateRefused):
            async with connect(safe.url, identity("ada")):
                pass
        with pytest.raises(CertificateRefused):
            await fetch_health(safe.url, 5, other)
        for first in (True, False):
            with pytest.raises(ssl.SSLCertVerificationError):
                await nats_connection(f"tls://127.0.0.1:{safe.daemon.nats_port}", other, first=first)


async def test_a_certificate_for_another_host_is_refused(safe: Safe) -> None:
    with pytest.raises(CertificateRefused, match=r"hostname mismatch.*; dial a name that it has$"):
        await fetch_health(f"https://localhost:{safe.daemon.http_port}", 5, safe.tls)


async def test_a_client_without_tls_gets_nothing(safe: Safe) -> None:
    with pytest.raises(Unreachable):
        await fetch_health(f"http://127.0.0.1:{safe.daemon.http_port}", 5)
    reader, writer = await asyncio.open_connection("127.0.0.1", safe.daemon.nats_port)
    async with asyncio.timeout(WAIT):
        info = json.loads((await reader.readline()).removeprefix(b"INFO "))
        assert info["tls_required"] is True
        writer.write(b"CONNECT {}\r\nPING\r\n")
        rest = await reader.read()
    assert b"PONG" not in rest
    assert b"INFO" not in rest
    writer.close()


async def test_a_context_that_takes_any_certificate_is_not_taken(safe: Safe) -> None:
    careless = ssl.create_default_context()
    careless.check_hostname = False
    with pytest.raises(InvalidInput):
        async with connect(safe.url, identity("ada"), tls=careless):
            pass


@pytest.mark.filterwarnings("ignore:parameter 'timeout' of type:DeprecationWarning")  # nats-py's call of aiohttp
@pytest.mark.parametrize("tls", [True, False], ids=["wss", "ws"])
async def test_a_websocket_is_let_in_by_the_same_rules(
    start_daemon: StartDaemon, authority: Authority, tls: bool
) -> None:
    websocket = "--nats-ws-bind", "127.0.0.1:0"
    daemon = await start_daemon(*(flags(authority.server(), *websocket) if tls else websocket))
    context = make_context(authority.ca) if tls else None
    url = f"{'https' if tls else 'http'}://127.0.0.1:{daemon.http_port}"
    token = (daemon.data_dir / "bootstrap-token").read_text().strip()
    health = await fetch_health(url, 5, context)
    address = health["bus"]["websocket"]
    assert address.startswith("wss://" if tls else "ws://")
    with pytest.raises((nats.errors.Error, OSError)):
        await nats_connection(address, context)
    await found_bus(url, identity("ada"), token, "ada", tls=context)
    complaints: asyncio.Queue[str] = asyncio.Queue()
    client = await nats_connection(address, context, complaints=complaints)
    try:
        await client.publish("$JS.API.INFO", b"")
        async with asyncio.timeout(WAIT):
            assert "permissions violation" in await complaints.get()
    finally:
        await client.close()


async def test_client_certificates_are_required_once_an_authority_is_named(
    start_daemon: StartDaemon, authority: Authority, tmp_path: Path
) -> None:
    clients = Authority(tmp_path / "clients", "clients")
    daemon = await start_daemon(*flags(authority.server(), "--tls-ca", clients.ca, "--nats-ws-bind", "127.0.0.1:0"))
    safe = Safe(daemon, authority, make_context(authority.ca, clients.client()))
    await safe.found()
    async with asyncio.timeout(WAIT), safe.enter() as ada:
        room = await ada.create_room("ops")
        async with tail(room) as reading:
            await room.send("with a certificate")
            assert await reading.until(1) == ["with a certificate"]
    stranger = make_context(authority.ca, Authority(tmp_path / "others").client())
    for context in (make_context(authority.ca), stranger):
        with pytest.raises(Unreachable):
            await fetch_health(safe.url, 5, context)
        with pytest.raises((nats.errors.Error, OSError)):
            await nats_connection(f"tls://127.0.0.1:{daemon.nats_port}", context, first=True)


def amiss(kind: str, authority: Authority) -> list[str]:
    """Flags for files with one fault, called `kind`."""
    day = timedelta(days=1)
    chain, key = authority.server()
    if kind == "readable":
        key.chmod(0o640)
    nonsense = authority.note("nonsense")
    return {
        "expired": flags(authority.server("old", lasts=-HOUR)),
        "early": flags(authority.server("new", begins=day, lasts=2 * day)),
        "nameless": flags(authority.server("nameless", host=None)),
        "mismatched": flags((chain, authority.server("other")[1])),
        "readable": flags((chain, key)),
        "missing": flags((chain, key.with_name("nothing"))),
        "no certificate": flags((key, key)),
        "no key": flags((chain, nonsense)),
        "no authority": flags((chain, key), "--tls-ca", nonsense),
        "half": ["--tls-cert", str(chain)],
        "authority alone": ["--tls-ca", str(authority.ca)],
    }[kind]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("expired", "the certificate has expired on"),
        ("early", "the certificate is not valid before"),
        ("nameless", "the certificate names no host"),
        ("mismatched", "do not belong together"),
        ("readable", "can be read by others: chmod 600"),
        ("missing", "cannot read --tls-key"),
        ("no certificate", "there is no certificate in pem"),
        ("no key", "the key is not a private key in pem"),
        ("no authority", "there is no certificate in pem"),
        ("half", "name both"),
        ("authority alone", "name --tls-cert and --tls-key too"),
    ],
)
async def test_what_no_client_should_take_is_refused_at_the_start(
    data_dir: Path, authority: Authority, kind: str, said: str
) -> None:
    status, line = await refused(data_dir, *amiss(kind, authority))
    assert (status, line.count("\n")) == (1, 1)
    assert line.startswith("unibus-membershipd: ")
    assert said in line


def what_is_open(safe: Safe) -> bytes:
    """All that others on the machine, or whoever copies the data directory, can read."""
    files = [path.read_bytes() for path in safe.daemon.data_dir.rglob("*") if path.is_file()]
    pids = safe.daemon.process.pid, *nats_servers(safe.daemon.data_dir)
    assert len(pids) == 2
    return b"".join(
        [*files, *(Path(f"/proc/{pid}/{what}").read_bytes() for pid in pids for what in ("cmdline", "environ"))]
    )


async def test_the_key_is_in_no_argument_no_environment_and_no_file_of_ours(safe: Safe) -> None:
    secret = (safe.authority.home / "server.key").read_bytes().splitlines()[1]
    assert secret not in what_is_open(safe)
