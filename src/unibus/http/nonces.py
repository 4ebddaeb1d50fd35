"""The nonces that one run of one node gives out, and which requests were taken under each (RFC 9449 section 8).

A request that names one can be taken by nobody but the process that gave it out, and only while that remembers it,
with all that it took under it. So a request is taken once although nothing is written: not again here, nor after a
restart, nor by another node. Pure but for the randomness and the clock that it is given. Must never forget a claim and
still take the nonce that it was made under.
"""

from collections.abc import Callable

from multidict import istr

from unibus.crypto.encoding import b64u
from unibus.crypto.httpsig import NONCE_HEADER
from unibus.errors import NonceUnknown

HEADER = istr(NONCE_HEADER)
"""In every answer: the newest."""
MOST = 50_000
"""Claims after which the next nonce is given out: about 4 MB, and twice that at most, with those of the one before."""
SECONDS = 120.0
"""After so many the next is given out as well: what was signed before is too old by then, and its claims no use."""


class ServerNonces:
    """`random` gives so many random bytes, `clock` seconds that never go back. The newest two nonces are taken."""

    def __init__(
        self,
        random: Callable[[int], bytes],
        clock: Callable[[], float],
        *,
        most: int = MOST,
        seconds: float = SECONDS,
    ) -> None:
        self._random = random
        self._clock = clock
        self._most = most
        self._seconds = seconds
        self._claims: dict[str, set[int]] = {}
        self._begin()

    def newest(self) -> str:
        """The one to give out now: 128 random bits in base64url. But for a flood it is taken for `seconds` at least."""
        if self._clock() - self._began >= self._seconds and any(self._claims.values()):
            self._begin()
        return self._newest

    def check(self, server_nonce: str) -> None:
        """Return if a request may name `server_nonce`. Raises NonceUnknown."""
        if server_nonce not in self._claims:
            raise NonceUnknown("this node does not know the nonce that it gave you (any more): sign the request again")

    def is_claimed(self, server_nonce: str, user: str, nonce: str) -> bool:
        """Whether a claim would be refused, as things are."""
        return hash((user, nonce)) in self._claims.get(server_nonce, ())

    def claim(self, server_nonce: str, user: str, nonce: str) -> bool:
        """Claim `user`'s `nonce` under `server_nonce`: True once. Raises NonceUnknown."""
        self.check(server_nonce)
        # A number is the smallest thing to remember, and the same each time in one process, so nothing is taken twice.
        # Two that share one refuse a good request, whose nonce nobody could foresee: once in 10^14 requests.
        name = hash((user, nonce))
        claims = self._claims[server_nonce]
        if name in claims:
            return False
        claims.add(name)
        self._claimed += 1  # under either: claims under the older must not grow without end
        if self._claimed >= self._most:
            self._begin()
        return True

    def _begin(self) -> None:
        self._newest, self._began, self._claimed = b64u(self._random(16)), self._clock(), 0
        self._claims[self._newest] = set()
        while len(self._claims) > 2:
            del self._claims[next(iter(self._claims))]
