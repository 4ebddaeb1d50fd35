"""The HTTP side of the audit trail: where requests come from, each refusal noted once, and the route that reads it."""

from aiohttp import web

from unibus.errors import Forbidden, NonceUnknown, UnibusError
from unibus.http.api import answer, number
from unibus.http.auth import Authenticator
from unibus.http.operations import Answer, Asker, Operation
from unibus.http.parameters import AFTER_ENTRY, LIMIT, LONGEST_WAIT, MAX_ENTRY, WAIT
from unibus.model.wire import PAGE, AuditPage
from unibus.services.audit import ACTOR, ORIGIN, Audit
from unibus.services.gate import Gate


class Auditor:
    """Notes in `audit` where a request comes from, and every refusal."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    def begins(self, request: web.Request) -> None:
        """See `Watcher.begins`."""
        ORIGIN.set(request.remote or "-")
        ACTOR.set("-")

    def ends(self, request: web.Request, status: int, error: UnibusError | None, seconds: float) -> None:  # noqa: ARG002 - a Watcher's signature
        """See `Watcher.ends`."""
        # Who names a nonce of before a restart is only asked to sign again: that would crowd out what was refused.
        if error is not None and status < 500 and not isinstance(error, NonceUnknown):
            resource = request.match_info.route.resource
            where = resource.canonical if resource is not None else "none"
            self._audit.refused(f"{request.method} {where}", error, actor=ACTOR.get())


class AuditApi:
    """Reading the trail, for admins."""

    def __init__(self, authenticator: Authenticator, gate: Gate, audit: Audit, node: str) -> None:
        self._authenticator = authenticator
        self._gate = gate
        self._audit = audit
        self._node = node

    def operations(self) -> list[Operation]:
        """The operation."""
        return [
            Operation(
                *("GET", "/v1/audit", self.audit, Asker.USER),
                [Answer(200, "entries", AuditPage)],
                parameters=(AFTER_ENTRY, LIMIT, WAIT),
                problems=(Forbidden,),
            )
        ]

    async def audit(self, request: web.Request) -> web.Response:
        """A page of this node's audit trail, for admins."""
        caller = await self._authenticator.authenticate(request)
        self._gate.admin(caller.user)
        after, limit = number(request.query, "after", 0, MAX_ENTRY), max(1, number(request.query, "limit", PAGE, PAGE))
        wait = number(request.query, "wait", 0, LONGEST_WAIT)
        if wait:
            await self._audit.wait(after, wait)
            self._gate.admin(caller.user)  # a right may end while one waits
        return answer(AuditPage(node=self._node, entries=await self._audit.read(after, limit)))
