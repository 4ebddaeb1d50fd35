"""Which certificates are made, kept and refused; and that OpenSSL takes them for what they are for and nothing else."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.cluster.example import GOLDEN, NAMES, NODES, NOW, example, random_bytes
from unibus.cluster import certificates as x
from unibus.cluster.certs import ENDS_SOON, How, Row, make, table
from unibus.cluster.layout import CLIENT_AUTHORITY, KINDS, ROUTE_AUTHORITY, PairPlace, pair
from unibus.cluster.nodes import parse
from unibus.crypto.certificates import read_pair
from unibus.errors import InvalidInput

DAY = 86_400
ROOTS = {CLIENT_AUTHORITY.certificate, CLIENT_AUTHORITY.key, ROUTE_AUTHORITY.certificate, ROUTE_AUTHORITY.key}
LEAVES = {name for node in NAMES for kind in KINDS for name in (pair(node, kind).certificate, pair(node, kind).key)}


def made(found: Mapping[str, bytes], how: How = How.KEEP, now: float = NOW, seed: int = 1) -> dict[str, bytes]:
    """What is there after the generator has run."""
    files = make(example(), found, how, now, random_bytes(seed))
    return {**found, **{name: file.content for name, file in files.items()}}


@pytest.fixture(scope="module")
def fresh() -> dict[str, bytes]:
    return made({})


def changed(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> set[str]:
    return {name for name in after if before.get(name) != after[name]}


def troubles(found: Mapping[str, bytes], now: float = NOW) -> dict[str, str]:
    return {row.what: row.trouble for row in table(example(), found, now) if row.trouble}


def described(certificate: bytes) -> list[str]:
    """What a certificate says, but for keys, serial number and signature."""
    found = x.load(certificate)
    lines = [f"subject {found.subject.rfc4514_string()}", f"issuer {found.issuer.rfc4514_string()}"]
    lines += [f"from {found.not_valid_before_utc:%F %T} to {found.not_valid_after_utc:%F %T}"]
    ca = found.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = found.extensions.get_extension_for_class(x509.KeyUsage)
    lines.append(f"authority {ca.value.ca}, critical {ca.critical}, path {ca.value.path_length}")
    lines.append(f"signs certificates {usage.value.key_cert_sign}, critical {usage.critical}")
    if not ca.value.ca:
        purposes = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        lines.append(f"for {', '.join(sorted(purpose.dotted_string for purpose in purposes))}")
        lines.append(f"names {', '.join(sorted(x.hosts_of(certificate)))}")
    return lines


def test_everything_is_made_where_there_is_nothing(fresh: dict[str, bytes]) -> None:
    assert set(fresh) == ROOTS | LEAVES
    assert troubles(fresh) == {}
    files = make(example(), {}, How.KEEP, NOW, random_bytes())
    assert {name for name, file in files.items() if file.secret} == {name for name in files if name.endswith(".key")}
    assert len({content for name, content in fresh.items() if name.endswith(".key")}) == 8


def test_certificates_say_what_is_known_to_be_good(fresh: dict[str, bytes]) -> None:
    told = "".join(
        f"{name}\n" + "".join(f"  {line}\n" for line in described(content))
        for name, content in sorted(fresh.items())
        if name.endswith(".crt")
    )
    assert told == (GOLDEN / "certificates.txt").read_text()


def test_a_second_run_makes_nothing(fresh: dict[str, bytes]) -> None:
    assert make(example(), fresh, How.KEEP, NOW + DAY, random_bytes(2)) == {}


def test_renewing_keeps_every_key_and_both_authorities(fresh: dict[str, bytes]) -> None:
    later = NOW + 300 * DAY
    renewed = made(fresh, How.RENEW, later, 2)
    assert changed(fresh, renewed) == {name for name in LEAVES if name.endswith(".crt")}
    assert troubles(renewed, later) == {}
    assert all(x.ends(renewed[name]) > x.ends(fresh[name]) for name in LEAVES if name.endswith(".crt"))


def test_force_replaces_everything_but_the_client_authority(fresh: dict[str, bytes]) -> None:
    forced = made(fresh, How.FORCE, NOW, 2)
    assert changed(fresh, forced) == LEAVES | {ROUTE_AUTHORITY.certificate, ROUTE_AUTHORITY.key}
    assert troubles(forced) == {}


def test_an_authority_that_was_there_signs_whatever_its_key(fresh: dict[str, bytes]) -> None:
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "of before")])
    own = x.load(fresh[CLIENT_AUTHORITY.certificate])
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, own.not_valid_before_utc, own.not_valid_after_utc)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    before = {
        CLIENT_AUTHORITY.certificate: built.sign(key, None).public_bytes(Encoding.PEM),
        CLIENT_AUTHORITY.key: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }
    after = made(before)
    assert changed(before, after) == LEAVES | {ROUTE_AUTHORITY.certificate, ROUTE_AUTHORITY.key}
    assert troubles(after) == {}


def test_one_key_under_both_roots_is_refused_even_when_it_was_certified_anew(fresh: dict[str, bytes]) -> None:
    key = fresh[CLIENT_AUTHORITY.key]
    other = x.authority("another name", key, NOW, random_bytes(3))
    mixed = {**fresh, ROUTE_AUTHORITY.certificate: other.certificate, ROUTE_AUTHORITY.key: key}
    with pytest.raises(InvalidInput, match="could join as a node"):
        made(mixed)
    assert "two different roots" in troubles(mixed)


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        (ROUTE_AUTHORITY.key, "has no cluster/secrets/route-ca.key beside it"),
        (ROUTE_AUTHORITY.certificate, "is missing"),
        (CLIENT_AUTHORITY.key, "has no tls/ca.key beside it"),
        (pair("homer", "route").key, "put it back, or --force"),
        (pair("homer", "server").certificate, "--renew makes one for it"),
    ],
)
def test_half_of_a_pair_is_never_quietly_replaced(fresh: dict[str, bytes], lost: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        made({name: content for name, content in fresh.items() if name != lost})


def test_a_certificate_is_made_anew_for_a_key_when_asked(fresh: dict[str, bytes]) -> None:
    lost = pair("homer", "server").certificate
    assert troubles(made({name: it for name, it in fresh.items() if name != lost}, How.RENEW, NOW, 2)) == {}


@pytest.mark.parametrize(
    ("what", "by", "reason"),
    [
        (pair("homer", "route").certificate, pair("magnus", "route").certificate, "does not belong to"),
        (pair("homer", "route").key, pair("magnus", "route").key, "does not belong to"),
        (ROUTE_AUTHORITY.certificate, CLIENT_AUTHORITY.certificate, "does not belong to"),
        (ROUTE_AUTHORITY.certificate, pair("homer", "route").certificate, "may not sign certificates"),
    ],
)
def test_what_does_not_belong_together_is_refused_and_shown(
    fresh: dict[str, bytes], what: str, by: str, reason: str
) -> None:
    mixed = {**fresh, what: fresh[by]}
    with pytest.raises(InvalidInput, match=reason):
        made(mixed)
    assert any(reason in trouble for trouble in troubles(mixed).values())


def test_a_new_address_asks_for_a_renewal(fresh: dict[str, bytes]) -> None:
    moved = parse(NODES.replace("10.9.0.1", "10.9.0.77"))
    with pytest.raises(InvalidInput, match=r"does not name 10\.9\.0\.77: --renew"):
        make(moved, fresh, How.KEEP, NOW, random_bytes(2))
    renewed = {name: it.content for name, it in make(moved, fresh, How.RENEW, NOW, random_bytes(2)).items()}
    assert not any(row.trouble for row in table(moved, {**fresh, **renewed}, NOW))


def test_the_table_says_what_ends_and_what_has_ended(fresh: dict[str, bytes]) -> None:
    end = NOW + x.NODE_LASTS.total_seconds()
    leaves = {name for name in LEAVES if name.endswith(".crt")}
    assert troubles(fresh, end - ENDS_SOON + 1) == dict.fromkeys(leaves, "ends soon: renew it")
    assert troubles(fresh, end) == dict.fromkeys(leaves, "has expired")
    assert Row(ROUTE_AUTHORITY.certificate, int(NOW + x.AUTHORITY_LASTS.total_seconds()), "") in table(
        example(), fresh, NOW
    )


def test_no_certificate_outlives_who_signed_it(fresh: dict[str, bytes]) -> None:
    later = NOW + x.AUTHORITY_LASTS.total_seconds() - DAY
    renewed = made(fresh, How.RENEW, later, 2)
    assert {x.ends(renewed[name]) for name in LEAVES if name.endswith(".crt")} == {int(later + DAY)}
    with pytest.raises(InvalidInput, match="has expired"):
        made(fresh, How.RENEW, later + DAY, 2)


def test_what_is_no_certificate_is_refused_by_name(fresh: dict[str, bytes]) -> None:
    for name in (ROUTE_AUTHORITY.certificate, pair("homer", "route").key):
        with pytest.raises(InvalidInput, match="there is no"):
            made({**fresh, name: b"nonsense"})


def test_the_daemon_takes_the_pairs(fresh: dict[str, bytes]) -> None:
    for node in NAMES:
        for kind in KINDS:
            place = pair(node, kind)
            assert read_pair(fresh[place.certificate], fresh[place.key], NOW).expires > NOW


@pytest.mark.parametrize(
    ("certificate", "root", "purpose", "host", "holds"),
    [
        (pair("magnus", "server"), CLIENT_AUTHORITY, "sslserver", ["-verify_ip", "192.0.2.1"], True),
        (pair("magnus", "server"), CLIENT_AUTHORITY, "sslserver", ["-verify_ip", "10.9.0.1"], True),
        (pair("homer", "server"), CLIENT_AUTHORITY, "sslserver", ["-verify_hostname", "homer.example.org"], True),
        (pair("homer", "route"), ROUTE_AUTHORITY, "sslserver", ["-verify_ip", "fd00::9:2"], True),
        (pair("homer", "route"), ROUTE_AUTHORITY, "sslclient", ["-verify_hostname", "homer"], True),
        (pair("magnus", "server"), CLIENT_AUTHORITY, "sslserver", ["-verify_ip", "10.9.0.3"], False),
        (pair("magnus", "server"), CLIENT_AUTHORITY, "sslclient", [], False),
        (pair("magnus", "server"), ROUTE_AUTHORITY, "sslserver", [], False),
        (pair("magnus", "route"), CLIENT_AUTHORITY, "sslclient", [], False),
    ],
)
def test_openssl_takes_a_certificate_for_what_it_is_for(
    fresh: dict[str, bytes],
    tmp_path: Path,
    certificate: PairPlace,
    root: PairPlace,
    purpose: str,
    host: list[str],
    holds: bool,
) -> None:
    leaf, authority = tmp_path / "leaf.crt", tmp_path / "root.crt"
    leaf.write_bytes(fresh[certificate.certificate])
    authority.write_bytes(fresh[root.certificate])
    options = ["-x509_strict", "-attime", str(int(NOW) + 60), "-purpose", purpose, *host]
    command = ["openssl", "verify", "-CAfile", str(authority), *options, str(leaf)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (outcome.returncode == 0) is holds, outcome.stderr


def test_a_node_cannot_make_another(fresh: dict[str, bytes], tmp_path: Path) -> None:
    place = pair("homer", "route")
    stolen = x.Made(fresh[place.certificate], fresh[place.key])
    forged = x.route("intruder", ["intruder"], x.new_key(random_bytes(5)), stolen, NOW, random_bytes(6))
    for name, content in (("leaf", forged.certificate), ("middle", stolen.certificate)):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "root").write_bytes(fresh[ROUTE_AUTHORITY.certificate])
    files = ["-CAfile", f"{tmp_path}/root", "-untrusted", f"{tmp_path}/middle", f"{tmp_path}/leaf"]
    command = ["openssl", "verify", "-attime", str(int(NOW) + 60), *files]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode != 0
