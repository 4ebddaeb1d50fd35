"""The door at which operators' stock NATS tools arrive: they may look at streams, and have them kept on more nodes.

Operators have an account of their own, and what their tools ask of JetStream is mapped to here and reaches nothing
else: a reply subject is never checked, and who may update a stream may as well empty it, have it copied out, or fill
it from another. Must never pass on a change of anything but the number of replicas, nor let that sink, nor tell who
is in which room.
"""

import contextlib
import json
from collections.abc import Mapping

import nats.errors
from nats.aio.msg import Msg
from structlog.typing import FilteringBoundLogger

from unibus.bus.cluster import REPLICAS, door
from unibus.bus.links import JETSTREAM_TIMEOUT, Links
from unibus.crypto.encoding import dump_json, load_json
from unibus.errors import BusUnavailable, InvalidInput, StorageUnavailable, UnibusError
from unibus.services.ports import Scaled

_INVALID, _UNAVAILABLE = 10052, 10008  # JetStream's own error codes, by which stock tools go
_LISTS = frozenset({"STREAM.NAMES", "STREAM.LIST"})
_OWN = "_nats."
"""What nats-server itself adds to a stream's metadata, and a tool sends back or leaves out."""


class Refused(Exception):
    """Why something is not asked of JetStream, in words for the person at the tool."""


def passed_on(call: str, data: bytes) -> dict[str, object] | None:
    """What to ask JetStream with in the API `call` when a tool asks with `data`; None for nothing.

    Whatever else is in `data` stays here: with it, one could ask a stream for its subjects, which name members.
    Raises Refused for calls that are not for operators, STREAM.UPDATE among them, which `raised` decides.
    """
    if call in _LISTS:
        offset = _object(data).get("offset") if data else None
        return {"offset": offset} if type(offset) is int and offset > 0 else None
    kind, _, stream = call.rpartition(".")
    if call == "INFO" or (kind in {"STREAM.INFO", "STREAM.LEADER.STEPDOWN"} and stream):
        return None
    raise Refused("this is not for operators")


def raised(found: Mapping[str, object], data: bytes) -> dict[str, object]:
    """The configuration to give a stream that has `found`, when a tool wants the one in `data`. Raises Refused.

    Tools send all that they were told, or all of it that they understand: what is left out stays as it is.
    """
    wanted = _object(data)
    wanted.pop("pedantic", None)  # about the request, and not about the stream
    replicas, now = wanted.pop("num_replicas", None), found.get("num_replicas", 1)
    for name, value in wanted.items():
        if value is not None and _plain(value) != _plain(found.get(name)):
            raise Refused(f"{name} is the daemon's to choose: operators change the number of replicas alone")
    if replicas not in REPLICAS or type(replicas) is not int:
        raise Refused(f"a stream is kept on 1, 3 or 5 nodes, not on {dump_json(replicas).decode()}")
    if not isinstance(now, int) or replicas < now:
        raise Refused(f"it is kept on {now} nodes now, and is not taken from any")
    return {**found, "num_replicas": replicas}


class Door:
    """Answers operators of one server. `node` is its name in a cluster, None outside of one."""

    def __init__(self, links: Links, node: str | None, scaled: Scaled, log: FilteringBoundLogger) -> None:
        self._links = links
        self._subject = door(node)
        self._scaled = scaled
        self._log = log

    async def open(self) -> None:
        """Begin to take requests, one at a time."""
        await self._links.core.subscribe(self._subject, cb=self._asked)

    async def _asked(self, message: Msg) -> None:
        call = message.subject.removeprefix(self._subject.removesuffix(">"))
        try:
            answer = await self._answer(call, message)
        except Refused as refused:
            self._log.info("an operator was refused", call=call, reason=str(refused))
            answer = _error(403, _INVALID, f"unibus: {refused}")
        except (nats.errors.Error, OSError, TimeoutError, UnibusError) as error:
            self._log.warning("an operator was not answered", call=call, error=str(error))
            answer = _error(503, _UNAVAILABLE, "JetStream system temporarily unavailable")
        if message.reply:
            with contextlib.suppress(nats.errors.Error):  # a broken link ends this life, and that is what is told
                await message.respond(answer)

    async def _answer(self, call: str, message: Msg) -> bytes:
        kind, _, stream = call.rpartition(".")
        if kind != "STREAM.UPDATE" or not stream:
            return await self._ask(call, passed_on(call, message.data))
        noted: object = None
        while True:
            told = await self._ask(f"STREAM.INFO.{stream}", None)
            match json.loads(told):
                case {"config": dict(found)}:
                    wanted = raised(found, message.data)
                case _:
                    return told  # there is no such stream, or nobody to say
            replicas = wanted["num_replicas"]
            if replicas in {noted, found.get("num_replicas")}:
                return await self._ask(call, wanted)
            # Before it is done: while they are copied, the records may not take a note. Then it is looked once more.
            await self._note(message, stream, int(str(replicas)))
            noted = replicas

    async def _note(self, message: Msg, stream: str, replicas: int) -> None:
        operator, host = _who(message)
        self._log.info("an operator wants a stream kept on more nodes", stream=stream, replicas=replicas)
        try:
            await self._scaled(operator, host, stream, replicas)
        except StorageUnavailable:  # another stream may just be taken to more nodes
            await self._scaled(operator, host, stream, replicas)

    async def _ask(self, call: str, body: dict[str, object] | None) -> bytes:
        data = b"" if body is None else dump_json(body)
        return (await self._links.core.request(f"$JS.API.{call}", data, timeout=JETSTREAM_TIMEOUT)).data


def _object(data: bytes) -> dict[str, object]:
    try:
        found = load_json(data)
    except InvalidInput as error:
        raise Refused("what the tool asks is not understood") from error
    if not isinstance(found, dict):
        raise Refused("what the tool asks is not understood")
    return found


def _plain(value: object) -> object:
    """`value` without what means the same as nothing: tools write out defaults that JetStream leaves out."""
    if isinstance(value, Mapping):
        value = {name: one for name, said in value.items() if not name.startswith(_OWN) and (one := _plain(said))}
    return value or None


def _who(message: Msg) -> tuple[str, str]:
    """Whose tool asks, and from where. nats-server says so, over whatever a client wrote under this name."""
    match json.loads((message.headers or {}).get("Nats-Request-Info", "null")):
        case {"user": str(user), "host": str(host)}:
            return user, host
        case told:
            raise BusUnavailable(f"nats-server does not say who asks: {told}")


def _error(status: int, code: int, description: str) -> bytes:
    return dump_json({"error": {"code": status, "err_code": code, "description": description}})
