"""The nonces that nodes gave out lately: a request that is signed with one costs its node no write. Pure.

What a node says is a stranger's word that goes into a signature: nothing but the one form is ever taken. One of a node
that has restarted since costs a request more, so it is used only for a while after it was heard. Which addresses
there are is a stranger's word too: no more than so many are remembered, those that were heard of last.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from yarl import URL

from unibus.crypto.httpsig import is_server_nonce

T = TypeVar("T")

FRESH = 60.0
"""Seconds for which a nonce is used after it was heard; an idle node takes it for twice as long."""
AVOIDED = 10.0
"""Seconds for which none is used at an address that has refused one: there may be several nodes behind it."""
MOST = 100
"""Addresses that are remembered, more than a bus has nodes. A request to one that was forgotten costs it a write."""


class ServerNonces:
    """The newest of each node. `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heard: dict[URL, tuple[str, float]] = {}
        self._refused: dict[URL, float] = {}

    def of(self, node: URL) -> str | None:
        """The nonce to sign a request to `node` with, if there is one that it is likely to take."""
        now = self._clock()
        if now - self._refused.get(node, -AVOIDED) < AVOIDED:
            return None
        nonce, heard = self._heard.get(node, ("", -FRESH))
        return nonce if now - heard < FRESH else None

    def heard(self, node: URL, values: Sequence[str]) -> None:
        """Take note of what an answer of `node` had in `httpsig.NONCE_HEADER`, if it is one nonce."""
        if len(values) == 1 and is_server_nonce(values[0]):
            _remember(self._heard, node, (values[0], self._clock()))

    def refused(self, node: URL) -> None:
        """Take note that `node` did not take its nonce."""
        _remember(self._refused, node, self._clock())


def _remember(known: dict[URL, T], node: URL, what: T) -> None:
    known.pop(node, None)  # a dict keeps its order, and this one is the newest now
    known[node] = what
    if len(known) > MOST:
        del known[next(iter(known))]
