"""The two authorities of a cluster and what they sign: RFC 5280 certificates with P-256 keys.

The route authority vouches for nodes towards nodes and signs nothing else. The client authority vouches for the planes
that users dial; it may have been there before, with any key. P-256, because browsers take no Ed25519 certificates (the
NATS plane may be a WebSocket). Pure: names, time and randomness are arguments. Must never make a certificate that could
sign another, but an authority's own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from unibus.cluster.nodes import Ip
from unibus.errors import InvalidInput

Random = Callable[[int], bytes]
_Signer = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

AUTHORITY_LASTS = timedelta(days=3650)
NODE_LASTS = timedelta(days=397)
"""No longer than what common clients have taken of a server (Apple HT211025)."""
_CLOCKS_APART = timedelta(hours=1)
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256's group (FIPS 186-5 and SP 800-186, section 3.2.1.3)."""
_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate and its private key, both as PEM."""

    certificate: bytes
    key: bytes


def new_key(random: Random) -> bytes:
    """A P-256 private key as PKCS #8 in PEM, from 48 random bytes (FIPS 186-5, A.2.1: extra random bits)."""
    number = int.from_bytes(random(48)) % (_ORDER - 1) + 1
    key = ec.derive_private_key(number, ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def authority(name: str, key: bytes, now: float, random: Random) -> Made:
    """An authority that signs leaves only, good for ten years from `now` (Unix seconds). Raises InvalidInput."""
    private = _own(key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = _builder(subject, subject, private.public_key(), now, AUTHORITY_LASTS, random)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    built = built.add_extension(_usage(signs=True), critical=True)
    return Made(built.sign(private, SHA256()).public_bytes(Encoding.PEM), key)


def route(node: str, hosts: Sequence[Ip | str], key: bytes, by: Made, now: float, random: Random) -> Made:
    """A node's certificate for routes: it is the server of those it accepts and the client of those it dials."""
    return _leaf(node, hosts, key, by, [_SERVER, _CLIENT], now, random)


def server(node: str, hosts: Sequence[Ip | str], key: bytes, by: Made, now: float, random: Random) -> Made:
    """A node's certificate for the planes that users dial."""
    return _leaf(node, hosts, key, by, [_SERVER], now, random)


def load(certificate: bytes) -> x509.Certificate:
    """The certificate in a PEM text. Raises InvalidInput."""
    try:
        return x509.load_pem_x509_certificate(certificate)
    except ValueError as error:
        raise InvalidInput("there is no certificate in pem there") from error


def public(certificate: bytes | x509.Certificate) -> bytes:
    """A certificate's key as SubjectPublicKeyInfo: what two authorities are compared by. Raises InvalidInput."""
    found = load(certificate) if isinstance(certificate, bytes) else certificate
    return found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def fits(certificate: bytes, key: bytes) -> bool:
    """Whether `key` is the private key of `certificate`. Raises InvalidInput when either is none."""
    return public(certificate) == _private(key).public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )


def signed_by(certificate: bytes, issuer: bytes) -> bool:
    """Whether `issuer` signed `certificate`. Raises InvalidInput when either is none."""
    try:
        load(certificate).verify_directly_issued_by(load(issuer))
    except Exception:  # noqa: BLE001 - whatever makes a signature not hold, from another name to another kind of key
        return False
    return True


def is_authority(certificate: bytes) -> bool:
    """Whether it may sign others. Raises InvalidInput when it is none."""
    try:
        return load(certificate).extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def ends(certificate: bytes) -> int:
    """The end of its validity in Unix seconds. Raises InvalidInput when it is none."""
    return int(load(certificate).not_valid_after_utc.timestamp())


def hosts_of(certificate: bytes) -> frozenset[str]:
    """The hosts that a certificate names. Raises InvalidInput."""
    try:
        found = load(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    names = found.get_values_for_type(x509.DNSName)
    return frozenset([*names, *map(str, found.get_values_for_type(x509.IPAddress))])


def _leaf(
    node: str,
    hosts: Sequence[Ip | str],
    key: bytes,
    by: Made,
    purposes: list[x509.ObjectIdentifier],
    now: float,
    random: Random,
) -> Made:
    signer, issuer, private = _private(by.key), load(by.certificate), _own(key)
    left = issuer.not_valid_after_utc - datetime.fromtimestamp(now, UTC)
    if left <= timedelta(0):
        raise InvalidInput("the authority itself has expired: make another")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    names = [x509.DNSName(host) if isinstance(host, str) else x509.IPAddress(host) for host in hosts]
    built = (
        _builder(subject, issuer.subject, private.public_key(), now, min(NODE_LASTS, left), random)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else SHA256()
    return Made(built.sign(signer, digest).public_bytes(Encoding.PEM), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: float,
    lasts: timedelta,
    random: Random,
) -> x509.CertificateBuilder:
    begins = datetime.fromtimestamp(int(now), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(int.from_bytes(random(16)) | 1)
        .not_valid_before(begins - _CLOCKS_APART)
        .not_valid_after(begins + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: bytes) -> _Signer:
    try:
        found = load_pem_private_key(key, None)
    except (TypeError, ValueError) as error:
        raise InvalidInput("there is no private key in pem there that needs no passphrase") from error
    if not isinstance(found, _Signer):
        raise InvalidInput("the key is of a kind that signs no certificate")
    return found


def _own(key: bytes) -> ec.EllipticCurvePrivateKey:
    """A key of the kind that `new_key` makes."""
    found = _private(key)
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise InvalidInput("the key is not one on an elliptic curve, such as P-256")
    return found
