"""The node's certificates: read, checked, held in memory, and replaced while both planes serve.

What was checked is what is served: the planes read it from memory files (memfd_create(2)) that the daemon fills, so
that a pair that is half renewed on disk reaches neither, and the key reaches no other disk. Must never serve a pair
that it did not check, nor drop the one that serves because a new one is wrong.
"""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from structlog.typing import FilteringBoundLogger

from unibus.bus.tls import BusTls
from unibus.crypto.certificates import own_pair, read_authorities, read_pair
from unibus.daemon.memory_files import fill, path_of, read_file
from unibus.daemon.tls_files import TlsFiles
from unibus.errors import BusUnavailable, InvalidInput, StartRefused

LOOK_WITHIN = 10.0


class Certificates:
    """Holds the memory files while entered; `http` and `bus` are what the planes are given.

    `clock` is in Unix seconds. Raises StartRefused when entered with files that no client would, or should, take.
    """

    def __init__(
        self,
        files: TlsFiles,
        log: FilteringBoundLogger,
        *,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self._files, self._log, self._clock, self._random = files, log, clock, random
        self._pair = self._authorities = self._own = -1
        self._shown: tuple[str, int] | None = None
        self._trouble = ""
        self._busy = asyncio.Lock()

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    async def look(self, host: str, port: int) -> None:
        """Note what the control plane really serves, by a handshake with it. Raises StartRefused if it does not."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        try:
            async with asyncio.timeout(LOOK_WITHIN):
                _, writer = await asyncio.open_connection(host, port, ssl=self.bus.context(), server_hostname="")
        except (OSError, TimeoutError) as error:
            raise StartRefused(f"the control plane does not show its certificate: {error}") from error
        shown: ssl.SSLObject = writer.get_extra_info("ssl_object")
        certificate = x509.load_der_x509_certificate(shown.getpeercert(binary_form=True) or b"")
        self._shown = (shown.version() or "", int(certificate.not_valid_after_utc.timestamp()))
        writer.transport.abort()

    async def renew(self, host: str, port: int, renew_bus: Callable[[], Awaitable[None]]) -> None:
        """Take up what is in the files now on both planes; connections stay. What is wrong is logged, and kept out."""
        async with self._busy:
            try:
                self._fill()
                self.http.load_cert_chain(path_of(self._pair))
                await self.look(host, port)
                await renew_bus()
            except (StartRefused, BusUnavailable) as error:
                self._trouble = f"the certificate was not renewed: {error.message}"
                self._log.error("certificate not renewed", reason=error.message)
            else:
                self._trouble = ""
                self._log.info("certificate renewed", expires=self._shown and self._shown[1])

    def status(self) -> dict[str, Any]:
        """What `/healthz` is told: the protocol that was negotiated, the end of validity in Unix seconds, `reasons`."""
        version, expires = self._shown or (None, None)
        return {"version": version, "expires": expires, "reasons": [self._trouble] if self._trouble else []}

    def _open(self) -> None:
        self._pair = os.memfd_create("unibus-pair")
        self._fill()
        self.http = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.http.minimum_version = ssl.TLSVersion.TLSv1_2
        self.http.set_alpn_protocols(["http/1.1"])
        self.http.load_cert_chain(path_of(self._pair))
        if self._files.authorities is not None:
            self._ask_for_certificates(self._files.authorities)
        wanted = self._files.authorities is not None
        self.bus = BusTls(
            pair=path_of(self._pair),
            authorities=path_of(self._authorities) if wanted else None,
            own=path_of(self._own) if wanted else None,
            descriptors=(self._pair, self._authorities) if wanted else (self._pair,),
        )

    def _ask_for_certificates(self, path: Path) -> None:
        """Clients then need one. The daemon, which is its own client, has one that is trusted by itself only."""
        own = own_pair("unibus", self._random(32), self._clock())
        try:
            authorities = read_authorities(read_file(path, "--tls-ca"))
        except InvalidInput as error:
            raise StartRefused(f"--tls-ca {path}: {error.message}") from error
        self._own, self._authorities = os.memfd_create("unibus-own"), os.memfd_create("unibus-authorities")
        fill(self._own, own.pem)
        fill(self._authorities, authorities + own.leaf)
        self.http.verify_mode = ssl.CERT_REQUIRED
        self.http.load_verify_locations(path_of(self._authorities))

    def _fill(self) -> None:
        files = self._files
        key = read_file(files.key, "--tls-key", private=True)
        try:
            pair = read_pair(read_file(files.chain, "--tls-cert"), key, self._clock())
        except InvalidInput as error:
            raise StartRefused(f"--tls-cert {files.chain} with --tls-key {files.key}: {error.message}") from error
        trial = os.memfd_create("unibus-trial")
        try:
            fill(trial, pair.pem)
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path_of(trial))
        except ssl.SSLError as error:
            raise StartRefused(f"--tls-cert {files.chain} cannot be used: {error.reason or error}") from error
        finally:
            os.close(trial)
        fill(self._pair, pair.pem)

    def _close(self) -> None:
        for descriptor in (self._pair, self._authorities, self._own):
            if descriptor != -1:
                os.close(descriptor)
        self._pair = self._authorities = self._own = -1
