"""X.509 certificates as an operator hands them over: RFC 5280 in PEM (RFC 7468), judged before anything serves them.

Pure: bytes, time and randomness in, facts or a refusal out. Must never put anything of a private key into an error.
"""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from unibus.errors import InvalidInput

_OWN_YEARS = timedelta(days=3650)
_BOTH_ENDS = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


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


def check_route(chain: bytes, authorities: bytes) -> None:
    """Return if a peer that trusts `authorities` takes the first certificate of `chain` at either end of a route.

    Raises InvalidInput, which says what is wrong.
    """
    leaf, *between = _certificates(chain)
    try:
        usages = set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        usages = _BOTH_ENDS
    if not usages >= _BOTH_ENDS:
        raise InvalidInput("a route is served and dialled: its certificate needs both serverAuth and clientAuth")
    roots, tried = _certificates(authorities), leaf
    for _ in range(len(between) + 1):
        if any(_signed(tried, root.public_key()) for root in roots):
            return
        tried = next((found for found in between if _signed(tried, found.public_key())), tried)
    raise InvalidInput("no authority of the routes vouches for the certificate: name the one that signed it")


def share_trust(authorities: bytes, others: bytes) -> bool:
    """Whether one of `authorities` has the key of a certificate in `others`, or has signed one, whatever the names."""
    keys = [found.public_key() for found in _certificates(authorities)]
    shown = {_public(key) for key in keys}
    return any(
        _public(other.public_key()) in shown or any(_signed(other, key) for key in keys)
        for other in _certificates(others)
    )


def _signed(certificate: x509.Certificate, key: CertificatePublicKeyTypes) -> bool:
    """Whether the signature of `certificate` is of `key`, whoever it says has signed."""
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    with contextlib.suppress(InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        algorithm = certificate.signature_algorithm_parameters
        match key:
            case RSAPublicKey() if isinstance(algorithm, PSS | PKCS1v15) and certificate.signature_hash_algorithm:
                key.verify(signature, signed, algorithm, certificate.signature_hash_algorithm)
            case EllipticCurvePublicKey() if isinstance(algorithm, ECDSA):
                key.verify(signature, signed, algorithm)
            case Ed25519PublicKey() | Ed448PublicKey():
                key.verify(signature, signed)
            case _:
                return False
        return True
    return False


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
