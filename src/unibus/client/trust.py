"""TLS as a client sees it: which certificates it takes for its node's, and what went wrong in a handshake.

Must never make a context that takes any certificate.
"""

import ssl
from pathlib import Path

from unibus.errors import CertificateRefused, InvalidInput, KeyCustody, reason_of, reason_untrusted


def make_context(ca: Path | None = None, certificate: Path | None = None) -> ssl.SSLContext:
    """Trust in the authorities in the file `ca` and no other, or in the system's; TLS 1.2 and newer.

    `certificate` is a file with this client's own certificate and key, for a node that wants one. Raises KeyCustody.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise KeyCustody(f"cannot use the authorities in {ca}: {_reason(error)}") from error
    if certificate is not None:
        try:
            context.load_cert_chain(certificate)
        except OSError as error:
            raise KeyCustody(f"cannot use the certificate and key in {certificate}: {_reason(error)}") from error
    return context


def chosen_context(tls: ssl.SSLContext | None, ca: Path | None) -> ssl.SSLContext | None:
    """The context behind what `unibus.connect` was given. Raises InvalidInput, KeyCustody."""
    if tls is None:
        return None if ca is None else make_context(ca)
    if ca is not None:
        raise InvalidInput("give either tls or ca: a context says itself whom it trusts")
    if tls.verify_mode != ssl.CERT_REQUIRED or not tls.check_hostname:
        raise InvalidInput("this context takes any certificate: one from ssl.create_default_context does not")
    return tls


def refused(where: object, error: ssl.SSLCertVerificationError) -> CertificateRefused:
    """Why the certificate shown at `where` was not taken, in words for a person."""
    return CertificateRefused(f"the certificate of {where} is not trusted: {reason_untrusted(error, '--ca')}")


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "there is no usable pem in it"
    return reason_of(error)
