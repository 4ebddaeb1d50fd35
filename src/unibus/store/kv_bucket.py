"""The KV bucket on the wire: JetStream's own API, asked in plain requests. One connection, one bucket.

Every request ends within a bound, and a write says whether it was done, was not done, or may have been. Must never
read by a listing or a direct get what has to be current: those may be answered by a server that is behind.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.nuid import NUID

from unibus.crypto.encoding import dump_json
from unibus.errors import NoQuorum, StorageUnavailable
from unibus.store.kv_flow import Flow
from unibus.tasks import end_tasks

WITHIN = 2.0
"""Seconds that one request may take."""
_HELD_WITHIN = 1.5  # seconds; who asks gives up after 2, and is to be told that nothing was done
_MOST_MESSAGES = 512
_MOST_BYTES = 8 * 1024 * 1024
_NOT_FOUND = 404
_UNAVAILABLE = 503
# Wrong last sequence: there is another message, or another is being written; a batch that lost its beginning.
_TAKEN = frozenset({10071, 10164, 10176})
_NAME_IN_USE = 10058
_FULL = frozenset({10023, 10047, 10077})  # insufficient resources, storage; maximum bytes exceeded
NO_QUORUM = "the cluster has no quorum now: try again in a moment"


class Create(NamedTuple):
    """A key to write that nobody has written, which the server drops after `seconds`."""

    key: str
    value: bytes
    seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the bucket. `stamp` is when its leader took it (RFC 3339); `deleted` that it marks a deletion."""

    key: str
    sequence: int
    value: bytes
    stamp: str
    deleted: bool = False

    @property
    def at(self) -> float:
        """When its leader took it, in Unix seconds."""
        return _seconds(self.stamp)


def settings(bucket: str, replicas: int) -> dict[str, object]:
    """The stream behind the bucket (NATS ADR-8), with every message told to all who listen (republish)."""
    return {
        "name": f"KV_{bucket}",
        "subjects": [f"$KV.{bucket}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "num_replicas": replicas,
        "max_msgs_per_subject": 1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "allow_rollup_hdrs": True,
        "allow_msg_ttl": True,
        "allow_direct": True,
        "allow_atomic": True,
        "deny_delete": True,
        "republish": {"src": f"$KV.{bucket}.>", "dest": f"unibus.feed.{bucket}.>"},
    }


class Bucket:
    """All methods raise StorageUnavailable, NoQuorum when that is why, and errors of `nats.errors` and OSError when
    the connection is gone."""

    def __init__(self, client: Client, name: str, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."
        self._name = name
        self._flow = Flow(monotonic)
        self._batches = NUID()

    async def ensure(self, replicas: int) -> str:
        """Make the bucket if it is not there, bring its settings back but for its replicas; which stream it is."""
        wanted = settings(self._name, replicas)
        info = await self._ask("STREAM.INFO")
        if info is None:
            info = await self._ask("STREAM.CREATE", wanted)
        if info is None:  # others were making it with another number of replicas
            raise NoQuorum(NO_QUORUM)
        found: Mapping[str, object] = info["config"]
        keep = {**found, **wanted, "num_replicas": found["num_replicas"]}
        if keep != found:
            info = await self._ask("STREAM.UPDATE", keep) or info
        if not info["config"].get("allow_atomic"):  # an older server takes batches for single messages
            raise StorageUnavailable("nats-server is too old for the cluster's records: it must be 2.12 or newer")
        return str(info["created"])

    async def info(self, within: float = WITHIN) -> Mapping[str, Any]:
        """What the stream's leader says of it."""
        info = await self._ask("STREAM.INFO", within=within)
        if info is None:
            raise StorageUnavailable("the cluster's bucket of records is gone: restore a backup")
        return info

    async def create(self, creates: Sequence[Create]) -> int | None:
        """Write what no other has written under these keys, all or nothing (NATS ADR-50): the last one's sequence.

        None if there is something under one of them, or will be. Raises TimeoutError when it may have been done.
        """
        try:
            async with asyncio.timeout(_HELD_WITHIN):
                await self._flow.turn()
        except TimeoutError as error:
            raise NoQuorum(NO_QUORUM) from error
        *others, last = creates
        if not others:
            return await self._write(last.key, last.value, _headers(last))
        batch = self._batches.next().decode()
        for number, one in enumerate(others, 1):
            headers = {**_headers(one), "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            await self._client.publish(self._prefix + one.key, one.value, headers=headers)
        end = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(len(creates)), "Nats-Batch-Commit": "1"}
        return await self._write(last.key, last.value, _headers(last) | end)

    async def put(self, key: str, value: bytes) -> int:
        """Write the key's value, whatever it was, and at once; the sequence.

        Raises TimeoutError when it may have been done.
        """
        sequence = await self._write(key, value, {})
        if sequence is None:
            raise StorageUnavailable("the cluster refused a write")
        return sequence

    async def delete(self, key: str) -> None:
        """Mark the key as deleted, for all who listen (NATS ADR-8). Raises as `put`."""
        await self._write(key, b"", {"KV-Operation": "DEL"})

    async def purge(self, pattern: str, before: int = 0) -> int:
        """Drop all keys that match, or those with sequences below `before`; how many were dropped."""
        answer = await self._ask("STREAM.PURGE", {"filter": self._prefix + pattern, "seq": before})
        return int(answer["purged"]) if answer else 0

    async def keys(self, pattern: str) -> set[str]:
        """The keys that match, as the leader lists them: it may be behind."""
        found: set[str] = set()
        while True:
            asked = {"subjects_filter": self._prefix + pattern, "offset": len(found)}
            page = await self._ask("STREAM.INFO", asked) or {}
            subjects = page.get("state", {}).get("subjects") or {}
            found.update(subject.removeprefix(self._prefix) for subject in subjects)
            if not subjects or len(found) >= page.get("total", 0):
                return found

    async def stored(self, sequence: int) -> Message | None:
        """The message with this sequence as the leader has it, or None if it has none."""
        answer = await self._ask("STREAM.MSG.GET", {"seq": sequence})
        if answer is None:
            return None
        found = answer["message"]
        value = base64.b64decode(found.get("data", ""))
        return Message(found["subject"].removeprefix(self._prefix), found["seq"], value, found["time"])

    async def after(self, sequence: int, pattern: str = ">", most: int = _MOST_MESSAGES) -> list[Message]:
        """The next messages after this sequence whose keys match, in order, as the nearest server has them."""
        return await self._get({"seq": sequence + 1, "next_by_subj": self._prefix + pattern}, most)

    async def latest(self, pattern: str) -> list[Message]:
        """The messages whose keys match, as the nearest server has them."""
        return await self._get({"multi_last": [self._prefix + pattern]})

    async def listen(self, told: Callable[[Message], None]) -> Callable[[], Coroutine[Any, Any, None]]:
        """Have `told` hear what the leader takes from now on: some may be lost, none comes out of order.

        Run what is returned: it ends with the connection, or raises what `told` raised, which then hears nothing more.
        """
        broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def read(msg: Msg) -> None:
            if not broken.done():
                try:
                    told(self._told(msg))
                except Exception as error:  # noqa: BLE001 - it is raised where somebody waits
                    broken.set_exception(error)

        # Called back, because iterating makes a task for every message. An iteration alone ends with its connection,
        # so there is one over a subject that nobody knows.
        await self._client.subscribe(
            f"unibus.feed.{self._name}.>", cb=read, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        silence = await self._client.subscribe(self._client.new_inbox())
        await self._client.flush(timeout=int(WITHIN))

        async def connected() -> None:
            async for _ in silence.messages:
                pass

        async def listening() -> None:
            connection = asyncio.create_task(connected(), name="kv connection")
            try:
                await asyncio.wait([connection, broken], return_when=asyncio.FIRST_COMPLETED)
                if broken.done():
                    broken.result()
            finally:
                broken.cancel()
                await end_tasks(connection)

        return listening

    async def _write(self, key: str, value: bytes, headers: dict[str, str]) -> int | None:
        with self._flow.asking():
            reply = await self._request(self._prefix + key, value, headers)
        answer = _object(reply.data)
        error = answer.get("error")
        if error is None:
            return int(answer["seq"])
        if error.get("err_code") in _TAKEN:
            return None
        raise _refused(error)

    async def _ask(self, call: str, body: object = None, within: float = WITHIN) -> dict[str, Any] | None:
        """JetStream's answer; None where what is asked about is not there."""
        data = b"" if body is None else dump_json(body)
        try:
            reply = await self._request(f"$JS.API.{call}.{self._stream}", data, None, within)
        except TimeoutError as error:
            raise NoQuorum(NO_QUORUM) from error
        answer = _object(reply.data)
        refusal = answer.get("error")
        if refusal is None:
            return answer
        if refusal.get("code") == _NOT_FOUND or refusal.get("err_code") == _NAME_IN_USE:
            return None
        raise _refused(refusal)

    async def _request(self, subject: str, data: bytes, headers: dict[str, str] | None, within: float = WITHIN) -> Msg:
        try:
            return await self._client.request(subject, data, timeout=within, headers=headers)
        except nats.errors.NoRespondersError as error:
            raise NoQuorum(NO_QUORUM) from error

    async def _get(self, what: Mapping[str, object], most: int = _MOST_MESSAGES) -> list[Message]:
        # NATS ADR-31, batched requests: messages, then one without a value and with a status that ends them.
        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(inbox)
        found = []
        try:
            body = {**what, "batch": most, "max_bytes": _MOST_BYTES}
            await self._client.publish(f"$JS.API.DIRECT.GET.{self._stream}", dump_json(body), reply=inbox)
            while "Status" not in ((msg := await subscription.next_msg(timeout=WITHIN)).headers or {}):
                found.append(self._read(msg))
        except TimeoutError as error:
            raise StorageUnavailable("nats-server does not say what it keeps") from error
        finally:
            await subscription.unsubscribe()
        return found

    def _told(self, msg: Msg) -> Message:
        self._flow.heard()  # a leader tells nothing that a majority does not have
        return self._read(msg)

    def _read(self, msg: Msg) -> Message:
        headers = msg.headers or {}
        return Message(
            headers["Nats-Subject"].removeprefix(self._prefix),
            int(headers["Nats-Sequence"]),
            msg.data,
            headers["Nats-Time-Stamp"],
            "KV-Operation" in headers,
        )


def _headers(create: Create) -> dict[str, str]:
    headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
    return headers if create.seconds is None else {**headers, "Nats-TTL": str(create.seconds)}


def _seconds(stamp: str) -> float:
    # RFC 3339 in UTC, with up to nine digits of a second; datetime takes six.
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")


def _object(data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise StorageUnavailable("nats-server's answer is not understood")
    return answer


def _refused(error: Mapping[str, object]) -> StorageUnavailable:
    if error.get("err_code") in _FULL:
        return StorageUnavailable("the cluster's disks or limits are full: free some space and try again")
    if error.get("code") == _UNAVAILABLE:
        return NoQuorum(NO_QUORUM)
    return StorageUnavailable(f"the cluster refused: {error.get('description', 'no reason given')}")
