"""The routes by which an admin changes the cluster itself. Decides nothing: each authenticates, calls the service."""

from aiohttp import web

from unibus.errors import BusUnavailable, Forbidden, NotFound, RuleBroken, StorageUnavailable
from unibus.http.api import answer, read_model
from unibus.http.auth import Authenticator
from unibus.http.limits import Limits
from unibus.http.operations import Answer, Asker, Operation
from unibus.model.wire import NodeName, Replicas
from unibus.services.nodes import Nodes


class ClusterApi:
    """The handlers, over the service."""

    def __init__(self, authenticator: Authenticator, nodes: Nodes, limits: Limits) -> None:
        self._authenticator = authenticator
        self._nodes = nodes
        self._limits = limits

    def operations(self) -> list[Operation]:
        """The operations, each beside what it is described by."""
        problems = (Forbidden, RuleBroken, BusUnavailable, StorageUnavailable)
        return [
            Operation(
                *("POST", "/v1/cluster/replicas", self.replicas, Asker.USER),
                [Answer(200, "everything is kept on so many nodes, or is being copied there", Replicas)],
                takes=Replicas,
                problems=problems,
            ),
            Operation(
                *("POST", "/v1/cluster/remove", self.remove_node, Asker.USER),
                [Answer(200, "the node is given up", NodeName)],
                takes=NodeName,
                problems=(*problems, NotFound),
            ),
        ]

    async def replicas(self, request: web.Request) -> web.Response:
        """Keep records, messages and blobs on more nodes, for admins. What is there is copied while all goes on."""
        caller = await self._authenticator.authenticate(request, self._limits.record_body)
        wanted = read_model(Replicas, caller.body)
        await self._nodes.keep_on(caller.user, wanted.replicas)
        return answer(wanted)

    async def remove_node(self, request: web.Request) -> web.Response:
        """Give up a node that is gone for good, for admins. One that is there is refused."""
        caller = await self._authenticator.authenticate(request, self._limits.record_body)
        named = read_model(NodeName, caller.body)
        await self._nodes.remove(caller.user, named.node)
        return answer(named)
