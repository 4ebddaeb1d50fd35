"""Real certificates for tests: an authority, and what it vouches for, good or amiss."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOUR = timedelta(hours=1)
LOOPBACK = x509.IPAddress(ip_address("127.0.0.1"))


class Authority:
    """A certificate authority with its files in `home`; `ca` is what its clients are told to trust."""

    def __init__(self, home: Path, name: str = "authority") -> None:
        home.mkdir(exist_ok=True)
        self.home, self.name = home, name
        self._key = generate_private_key(SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        built = self._builder(self._subject, self._key, timedelta(days=365), -HOUR)
        basic = x509.BasicConstraints(ca=True, path_length=None)
        self.certificate = built.add_extension(basic, critical=True).sign(self._key, SHA256())
        self.ca = home / f"{name}.pem"
        self.ca.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def server(
        self,
        name: str = "server",
        *,
        host: x509.GeneralName | None = LOOPBACK,
        lasts: timedelta = timedelta(days=90),
        begins: timedelta = -2 * HOUR,
    ) -> tuple[Path, Path]:
        """The files of a certificate for `host` and of its key, good from `begins` to `lasts` from now."""
        extensions: list[x509.ExtensionType] = [x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])]
        if host is not None:
            extensions.append(x509.SubjectAlternativeName([host]))
        return self._issue(name, lasts, begins, extensions)

    def client(self, name: str = "client") -> Path:
        """One file with a client's certificate and its key."""
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        chain, key = self._issue(name, timedelta(days=90), -2 * HOUR, [usage])
        both = self.home / f"{name}-both.pem"
        both.write_bytes(chain.read_bytes() + key.read_bytes())
        return both

    def route(
        self,
        name: str = "route",
        *,
        lasts: timedelta = timedelta(days=90),
        usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    ) -> tuple[Path, Path]:
        """The files of a certificate for one end of a cluster's route, and of its key."""
        extensions = [x509.ExtendedKeyUsage(usages), x509.SubjectAlternativeName([LOOPBACK])]
        return self._issue(name, lasts, -2 * HOUR, extensions)

    def reissued(self, name: str) -> Path:
        """Another certificate of this authority's key, which calls itself `name`."""
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        basic = x509.BasicConstraints(ca=True, path_length=None)
        built = self._builder(self._subject, self._key, timedelta(days=365), -HOUR)
        path = self.home / f"{name}-again.pem"
        made = built.add_extension(basic, critical=True).sign(self._key, SHA256())
        path.write_bytes(made.public_bytes(Encoding.PEM))
        return path

    def note(self, text: str) -> Path:
        """A private file that holds `text`."""
        path = self.home / "note"
        path.touch(0o600)
        path.write_text(text)
        return path

    def _issue(
        self, name: str, lasts: timedelta, begins: timedelta, extensions: list[x509.ExtensionType]
    ) -> tuple[Path, Path]:
        key = generate_private_key(SECP256R1())
        built = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, lasts, begins)
        for extension in extensions:
            built = built.add_extension(extension, critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        made = built.add_extension(issuer, critical=False).sign(self._key, SHA256())
        chain, secret = self.home / f"{name}.crt", self.home / f"{name}.key"
        chain.write_bytes(made.public_bytes(Encoding.PEM))
        secret.touch(0o600)
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return chain, secret

    def _builder(
        self, subject: x509.Name, key: EllipticCurvePrivateKey, lasts: timedelta, begins: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + lasts)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
