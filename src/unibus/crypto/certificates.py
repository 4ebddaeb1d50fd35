"""X.509 certificates as an operator hands them over: RFC 5280 in PEM (RFC 7468), judged before anything serves them.

Pure: bytes, time and randomness in, facts or a refusal out. Must never put anything of a private key into an error.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from unibus.errors import InvalidInput

EXPIRES_SOON = 7 * 86_400
"""Seconds before its end at which a certificate should have been replaced."""
_OWN_YEARS = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Pair:
    """A server's certificate chain with its key, both in `pem`; `leaf` is the certificate alone, in PEM.

    `expires` is the end of its validity in Unix seconds.
    """

    pem: bytes
    leaf: bytes
    expires: int


def read_pair(chain: bytes, key: bytes, now: float) -> Pair:
    """The pair in two PEM texts, good at `now` (Unix seconds). Raises InvalidInput, which says what is wrong."""
    certificates = _certificates(chain)
    leaf = certificates[0]
    try:
        private = load_pem_private_key(key, None)
    except TypeError as error:
        raise InvalidInput("the key is under a passphrase, and nobody is there to type it: store it without") from error
    except ValueError as error:
        raise InvalidInput("the key is not a private key in pem") from error
    if _public(private.public_key()) != _public(leaf.public_key()):
        raise InvalidInput("the certificate and the key do not belong together: name a pair that was made together")
    expires, begins = leaf.not_valid_after_utc, leaf.not_valid_before_utc
    if expires.timestamp() <= now:
        raise InvalidInput(f"the certificate has expired on {expires:%Y-%m-%d %H:%M} utc: renew it")
    if begins.timestamp() > now:
        raise InvalidInput(f"the certificate is not valid before {begins:%Y-%m-%d %H:%M} utc: is the clock right?")
    try:
        leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound as error:
        raise InvalidInput(
            "the certificate names no host (subject alternative name): no client would take it"
        ) from error
    shown = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem = b"".join(found.public_bytes(Encoding.PEM) for found in certificates)
    return Pair(pem + shown, leaf.public_bytes(Encoding.PEM), int(expires.timestamp()))


def read_authorities(pem: bytes) -> bytes:
    """The authorities in `pem`, and nothing else that may stand there. Raises InvalidInput."""
    return b"".join(found.public_bytes(Encoding.PEM) for found in _certificates(pem))


def own_pair(name: str, seed: bytes, now: float) -> Pair:
    """A client certificate, made from 32 random bytes, that vouches for nothing but itself."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begins = datetime.fromtimestamp(now, UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins - timedelta(hours=1))
        .not_valid_after(begins + _OWN_YEARS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, None)
    )
    leaf = made.public_bytes(Encoding.PEM)
    shown = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Pair(leaf + shown, leaf, int(made.not_valid_after_utc.timestamp()))


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InvalidInput("there is no certificate in pem there") from error


def _public(key: object) -> bytes:
    encode = getattr(key, "public_bytes", None)
    if encode is None:
        raise InvalidInput("the key is of a kind that no server can use")
    encoded: bytes = encode(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded
