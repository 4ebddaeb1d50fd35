"""A node's certificate for the routes of its cluster: read, checked, held in memory, replaced while the routes stay up.

Between whoever the routes' authority vouches for and all that the cluster holds stands one secret more. So that
authority must vouch for nobody else: it must not be that of clients or of the data plane, however it was issued again.
"""

import os
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from structlog.typing import FilteringBoundLogger

from unibus.bus.tls import BusTls
from unibus.crypto.certificates import check_route, read_authorities, read_pair, share_trust
from unibus.daemon.memory_files import fill, path_of, read_file
from unibus.daemon.tls_files import RouteTlsFiles, TlsFiles
from unibus.errors import BusUnavailable, InvalidInput, StartRefused


class RouteCertificates:
    """Holds the memory files while entered; `bus` is what the bus is given.

    `others` are the files of the data plane, `clock` is in Unix seconds. Raises StartRefused when entered with files
    that no peer would, or should, take.
    """

    def __init__(
        self, files: RouteTlsFiles, others: TlsFiles | None, log: FilteringBoundLogger, *, clock: Callable[[], float]
    ) -> None:
        self._files, self._others, self._log, self._clock = files, others, log, clock
        self._pair = self._authorities = -1
        self.trouble = ""
        """Why the certificate that was last offered was not taken up; empty when it was."""

    def __enter__(self) -> Self:
        pair, authorities = self._read()
        self._pair, self._authorities = os.memfd_create("unibus-route"), os.memfd_create("unibus-route-authorities")
        fill(self._pair, pair)
        fill(self._authorities, authorities)
        self.bus = BusTls(
            pair=path_of(self._pair),
            authorities=path_of(self._authorities),
            own=None,
            descriptors=(self._pair, self._authorities),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._pair)
        os.close(self._authorities)

    async def renew(self, renew_bus: Callable[[], Awaitable[None]]) -> None:
        """Take up what is in the files now; routes that are up stay up. What is wrong is logged, and kept out."""
        try:
            pair, authorities = self._read()
            fill(self._pair, pair)
            fill(self._authorities, authorities)
            await renew_bus()
        except (StartRefused, BusUnavailable) as error:
            self.trouble = f"the route certificate was not renewed: {error.message}"
            self._log.error("route certificate not renewed", reason=error.message)
        else:
            self.trouble = ""
            self._log.info("route certificate renewed")

    def _read(self) -> tuple[bytes, bytes]:
        """The pair and the authorities, as PEM. Raises StartRefused."""
        files = self._files
        key = read_file(files.key, "--route-tls-key", private=True)
        chain = read_file(files.chain, "--route-tls-cert")
        found = read_file(files.authorities, "--route-tls-ca")
        try:
            authorities = read_authorities(found)
        except InvalidInput as error:
            raise StartRefused(f"--route-tls-ca {files.authorities}: {error.message}") from error
        try:
            pair = read_pair(chain, key, self._clock())
            check_route(chain, authorities)
        except InvalidInput as error:
            raise StartRefused(f"--route-tls-cert {files.chain}: {error.message}") from error
        self._refuse_shared(authorities)
        return pair.pem, authorities

    def _refuse_shared(self, authorities: bytes) -> None:
        if self._others is None:
            return
        for flag, path in (("--tls-ca", self._others.authorities), ("--tls-cert", self._others.chain)):
            if path is None:
                continue
            try:
                shared = share_trust(authorities, read_file(path, flag))
            except InvalidInput as error:
                raise StartRefused(f"{flag} {path}: {error.message}") from error
            if shared:
                raise StartRefused(
                    f"--route-tls-ca {self._files.authorities} has the key behind {flag} {path}, so that "
                    "certificates of others would open routes: make an authority with a key of its own for routes"
                )
