"""What a failed request to one node means for the next: a pure decision, and the pace of trying.

Every request may be repeated (`client.api` says why), so what passes by itself is tried again until the deadline: with
several nodes on the next one at once, and with a pause after each round of them. Of a fault that only that node has the
others are asked, and it is told when all have one. Everything else is the answer.
"""

import random
from collections.abc import Callable
from enum import Enum

from yarl import URL

from unibus.client.backoff import PASSING, delays
from unibus.client.nodes import Nodes
from unibus.errors import (
    CertificateRefused,
    LogRolledBack,
    NonceReplayed,
    NonceUnknown,
    RateLimited,
    SignatureStale,
    UnibusError,
    Untrusted,
    WrongBus,
)

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 4.0
"""How long one of several nodes may be silent in the first round; twice as long in each further one."""
ROUND_CAP = 0.5
"""The longest pause between rounds: an election takes seconds, and who waits for its end should hear of it soon."""


class Verdict(Enum):
    """FINAL is the answer; PASSING may pass by itself; FAULT is the node's own, another may be without it."""

    FINAL = 1
    PASSING = 2
    FAULT = 3


def verdict(error: UnibusError) -> Verdict:
    """What `error` says about asking another of several nodes."""
    match error:
        case LogRolledBack():
            return Verdict.PASSING  # a node that is behind, until all insist
        case CertificateRefused() | WrongBus() | SignatureStale() | NonceUnknown():
            return Verdict.FAULT
        case Untrusted():
            return Verdict.FINAL
        case NonceReplayed():
            return Verdict.PASSING  # every try has a nonce of its own: only a connection that repeats uses one up
    if error.status in PASSING:
        return Verdict.PASSING
    return Verdict.FAULT if error.status >= 500 else Verdict.FINAL


def may_go_on(error: UnibusError, *, several: bool) -> bool:
    """Whether something long, such as an upload, goes on after `error` where it was cut."""
    return not isinstance(error, Untrusted) and (
        isinstance(error, NonceReplayed | RateLimited) or (several and error.status in PASSING)
    )


class Trying:
    """One request's tries. `failed` says how long to wait before the next one; None: give up with `told`."""

    def __init__(self, nodes: Nodes, spread: Callable[[float, float], float] = random.uniform) -> None:
        self._nodes = nodes
        self._pauses = delays(cap=ROUND_CAP, spread=spread) if nodes.several else delays(spread=spread)
        self._round: dict[URL, Verdict] = {}
        self.patience = 1.0
        self.told: UnibusError | None = None

    def failed(self, node: URL, error: UnibusError) -> float | None:
        """Seconds until the next try, after `node` has failed with `error`; it comes last from here on."""
        found = verdict(error)
        # That a node shows less than is known says more than that another is away.
        if not isinstance(self.told, LogRolledBack) or isinstance(error, LogRolledBack) or found is Verdict.FINAL:
            self.told = error
        if not self._nodes.several:
            return None if error.status not in PASSING else max(next(self._pauses), _asked_to_wait(error))
        if found is Verdict.FINAL:
            return None
        if isinstance(error, RateLimited):
            return max(next(self._pauses), _asked_to_wait(error))  # going elsewhere would be a way round the limit
        self._nodes.leave(node)
        self._round[node] = found
        if len(self._round) < len(self._nodes):
            return 0.0
        hopeless = all(each is Verdict.FAULT for each in self._round.values())
        self._round.clear()
        self.patience *= 2
        return None if hopeless else next(self._pauses)


def _asked_to_wait(error: UnibusError) -> float:
    asked = error.extra.get("retry_after")
    return asked if isinstance(asked, int | float) and asked > 0 else 0.0
