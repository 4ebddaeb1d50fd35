"""TLS on the NATS plane: what nats-server is told, and how the daemon's own connections know their server.

The daemon dials a loopback or bound address, which no certificate need name. It trusts the one certificate that it gave
its server and nothing else, which is stricter than any name. Must never switch verification off.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HANDSHAKE_FIRST = "500ms"
"""A client that begins with TLS sees nothing in the clear; one that waits for the server's INFO gets it after this."""
_POLL = 0.05


@dataclass(frozen=True, slots=True)
class BusTls:
    """Files, which the child inherits as `descriptors`: `pair` holds the certificate chain and its key.

    With `authorities`, clients need a certificate of one of them; `own` is then the daemon's, with its key.
    """

    pair: Path
    authorities: Path | None
    own: Path | None
    descriptors: tuple[int, ...]

    def settings(self) -> Mapping[str, object]:
        """nats-server's `tls` block, for either listener."""
        block: dict[str, object] = {"cert_file": str(self.pair), "key_file": str(self.pair), "min_version": "1.2"}
        if self.authorities is not None:
            block |= {"ca_file": str(self.authorities), "verify": True}
        return block

    def context(self) -> ssl.SSLContext:
        """What connects to a server with exactly the certificate that is in `pair` now. Raises OSError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the certificate itself is what is known, whatever it names
        leaf, end, _ = self.pair.read_text("ascii").partition("-----END CERTIFICATE-----")
        context.load_verify_locations(cadata=leaf + end)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.own is not None:
            context.load_cert_chain(self.own)
        return context


async def comes_to_show(host: str, port: int, context: ssl.SSLContext) -> None:
    """Return once the server there completes a handshake that `context` accepts."""
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="")
        except OSError:
            await asyncio.sleep(_POLL)
        else:
            writer.transport.abort()
            return
