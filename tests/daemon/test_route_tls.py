"""Route certificates: what peers would not take is refused, and so is an authority that vouches for others too."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.bus.stage import Logbook
from tests.support.pki import Authority
from unibus.daemon.route_tls import RouteCertificates
from unibus.daemon.tls_files import RouteTlsFiles, TlsFiles
from unibus.errors import BusUnavailable, StartRefused


@pytest.fixture
def routes(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "routes", "routes")


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "clients", "clients")


def enter(files: RouteTlsFiles, others: TlsFiles | None = None) -> RouteCertificates:
    return RouteCertificates(files, others, Logbook().logger, clock=time.time)


def refused(files: RouteTlsFiles, others: TlsFiles | None = None) -> str:
    with pytest.raises(StartRefused) as caught, enter(files, others):
        pass
    return caught.value.message


def test_a_good_pair_beside_another_authority_is_held_in_memory(routes: Authority, clients: Authority) -> None:
    chain, key = routes.route()
    with enter(RouteTlsFiles(chain, key, routes.ca), TlsFiles(*clients.server(), clients.ca)) as held:
        assert held.bus.pair.read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")
        assert held.bus.settings()["verify"] is True
        assert len(held.bus.descriptors) == 2
    assert not Path(held.bus.pair).exists()


def test_what_no_peer_would_take_is_refused_by_its_reason(routes: Authority, clients: Authority) -> None:
    chain, key = routes.route()
    other_key = routes.route("other")[1]
    assert "do not belong together" in refused(RouteTlsFiles(chain, other_key, routes.ca))
    late = routes.route("late", lasts=-timedelta(minutes=1))
    assert "has expired" in refused(RouteTlsFiles(*late, routes.ca))
    half = routes.route("half", usages=[ExtendedKeyUsageOID.SERVER_AUTH])
    assert "serverAuth and clientAuth" in refused(RouteTlsFiles(*half, routes.ca))
    assert "vouches" in refused(RouteTlsFiles(chain, key, clients.ca))
    key.chmod(0o640)
    assert "chmod 600" in refused(RouteTlsFiles(chain, key, routes.ca))
    assert "cannot read --route-tls-key" in refused(RouteTlsFiles(chain, key.with_name("none"), routes.ca))


def test_the_clients_authority_must_not_be_the_routes(routes: Authority, clients: Authority) -> None:
    files = RouteTlsFiles(*routes.route(), routes.ca)
    assert "authority with a key of its own" in refused(files, TlsFiles(*clients.server(), routes.ca))


def test_the_same_key_under_another_name_is_the_same_authority(routes: Authority, clients: Authority) -> None:
    files = RouteTlsFiles(*routes.route(), routes.ca)
    again = routes.reissued("clients")
    both = clients.home / "both.pem"
    both.write_bytes(clients.ca.read_bytes() + again.read_bytes())
    for authorities in (again, both):
        assert "--tls-ca" in refused(files, TlsFiles(*clients.server(), authorities))


def test_an_authority_that_signed_the_data_planes_certificate_is_refused(routes: Authority) -> None:
    files = RouteTlsFiles(*routes.route(), routes.ca)
    assert "--tls-cert" in refused(files, TlsFiles(*routes.server(), None))


async def test_a_bad_renewal_is_kept_out_and_told(routes: Authority, clients: Authority) -> None:
    chain, key = routes.route()
    reloads = []

    async def reload() -> None:
        reloads.append(1)

    async def fail() -> None:
        raise BusUnavailable("not now")

    with enter(RouteTlsFiles(chain, key, routes.ca)) as held:
        before = held.bus.pair.read_bytes()
        chain.write_bytes(clients.route()[0].read_bytes())
        await held.renew(reload)
        assert "do not belong together" in held.trouble
        assert (held.bus.pair.read_bytes(), reloads) == (before, [])
        routes.route()
        await held.renew(reload)
        assert (held.trouble, reloads) == ("", [1])
        assert held.bus.pair.read_bytes() != before
        await held.renew(fail)
        assert "not now" in held.trouble
