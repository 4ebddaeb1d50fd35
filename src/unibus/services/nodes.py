"""What an admin may do to the cluster itself: have everything kept on more nodes, give up one that is gone for good.

Must never give up a node that is there: it would go on serving what the others no longer tell it.
"""

from collections.abc import Awaitable, Callable, Mapping

from unibus.errors import NotFound, RuleBroken
from unibus.services.audit import Audit
from unibus.services.gate import Gate
from unibus.services.ports import ClusterPlace


class Nodes:
    """`known` gives the nodes of the cluster by name and whether each is alive, `forget` drops one of them.

    On a node that is in no cluster, `place` is None.
    """

    def __init__(
        self,
        gate: Gate,
        audit: Audit,
        place: ClusterPlace | None,
        known: Callable[[], Mapping[str, bool]],
        forget: Callable[[str], Awaitable[None]],
    ) -> None:
        self._gate = gate
        self._audit = audit
        self._place = place
        self._known = known
        self._forget = forget

    async def keep_on(self, actor: str, replicas: int) -> None:
        """Keep everything on so many nodes. Raises Forbidden, RuleBroken, BusUnavailable."""
        await self._checked(actor).keep_on(replicas)
        await self._audit.done("cluster.scale", actor=actor, replicas=replicas)

    async def remove(self, actor: str, node: str) -> None:
        """Give up a node that is gone for good. Raises Forbidden, NotFound, RuleBroken, BusUnavailable."""
        place = self._checked(actor)
        alive = self._known().get(node)
        if alive is None:
            raise NotFound(f"no node of this cluster is called {node}: /healthz names them")
        if alive:
            raise RuleBroken(f"{node} is there: end it for good first, and try again some seconds later")
        await place.give_up(node)
        await self._forget(node)
        await self._audit.done("cluster.remove", actor=actor, node=node)

    def _checked(self, actor: str) -> ClusterPlace:
        self._gate.admin(actor)
        if self._place is None:
            raise RuleBroken("this node is in no cluster")
        return self._place
