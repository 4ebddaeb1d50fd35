"""The one bucket of blobs as its stream's leader serves it: what is written counts when a majority has it.

What decides anything is asked of the leader; only the bytes of chunks, which never change, come from any server that
has them. Every request has a time-out. Must never change a bucket that is there: its replicas are others' to choose.
"""

import asyncio
import base64
import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import nats.errors
from nats.aio.client import Client

from unibus.crypto.encoding import dump_json, load_json
from unibus.errors import InvalidInput, NoQuorum, StorageUnavailable
from unibus.store.blob_objects_layout import Subjects, Write, settings

WITHIN = 5.0
"""Seconds that one request may take."""
_NEXT_WITHIN = 2.0
"""Seconds between two chunks, after which another server is asked for the rest."""
_BATCHES = 4
"""Batches that a node has under way at once. nats-server takes 50 for a stream, and keeps one that was cut for 10 s."""
# JetStream's own error codes (nats-server's errors.json): nothing is judged by its text.
_NO_STREAM, _NAME_TAKEN, _NO_MESSAGE, _CANNOT_DELETE = 10059, 10058, 10037, 10057
_MOVED = frozenset({10071, 10164})  # another message is the last; or another is just being written
_FULL = frozenset({10002, 10023, 10047, 10077})  # the account's or server's room, or what the disk said


class Message(NamedTuple):
    """A message of the stream."""

    subject: str
    sequence: int
    data: bytes
    headers: Mapping[str, str]


class Listing(NamedTuple):
    """How many messages each subject has, and the stream's last sequence at that moment."""

    counts: Mapping[str, int]
    last: int


class Moved(Exception):
    """Something was written meanwhile: nothing of what was asked was."""


class Full(Exception):
    """There is no room for what was to be written."""


class _Refused(Exception):
    def __init__(self, code: int, description: str, status: object) -> None:
        super().__init__(description)
        self.code = code
        self.status = status


class Bucket:
    """Requests about one bucket, which the first of them makes: with so many `replicas`, or with as many as the stream
    `beside` has by then. All methods raise StorageUnavailable.
    """

    def __init__(
        self, client: Callable[[], Client], subjects: Subjects, replicas: int, beside: str | None = None
    ) -> None:
        self._client = client
        self._subjects = subjects
        self._replicas = replicas
        self._beside = beside
        self._there = False
        self._making = asyncio.Lock()
        self._batches = asyncio.Semaphore(_BATCHES)

    async def last(self, subject: str) -> Message | None:
        """The last message on `subject`."""
        return await self._message({"last_by_subj": subject})

    async def next(self, subject: str, sequence: int) -> Message | None:
        """The first message on `subject` that has `sequence` or a later one."""
        return await self._message({"next_by_subj": subject, "seq": sequence})

    async def write(self, *messages: Write) -> int:
        """Write all of `messages` or none; the sequence of the last, those of the others come just before it.

        Raises Moved, Full. After StorageUnavailable it may have happened all the same.
        """
        await self._make()
        headers = [message.headers for message in messages]
        try:
            if len(messages) == 1:
                answer = await self._ask(messages[0].subject, messages[0].data, headers[0])
            else:
                answer = await self._batch(messages, headers)
        except _Refused as refused:
            if refused.code in _MOVED:
                raise Moved from refused
            if refused.code in _FULL:
                raise Full from refused
            raise _unavailable(refused) from refused
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise _unavailable(error) from error
        match answer:
            case {"seq": int(sequence)}:
                return sequence
            case _:
                raise StorageUnavailable("the cluster's answer about blobs is not understood")

    async def _batch(self, messages: Sequence[Write], headers: Sequence[dict[str, str]]) -> dict[str, object]:
        """Publish an atomic batch (NATS ADR-50)."""
        batch = secrets.token_hex(16)
        for number, header in enumerate(headers, 1):
            header |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
        headers[-1]["Nats-Batch-Commit"] = "1"
        async with self._batches, asyncio.timeout(WITHIN):
            for message, header in zip(messages[:-1], headers[:-1], strict=True):
                await self._client().publish(message.subject, message.data, headers=header)
            return await self._ask(messages[-1].subject, messages[-1].data, headers[-1])

    async def purge(self, subject: str, upto: int | None = None) -> int:
        """Remove what is on `subject`, up to the sequence `upto` if given; how many messages that was."""
        body: dict[str, object] = {"filter": subject}
        if upto is not None:
            body["seq"] = upto + 1
        match await self._api("STREAM.PURGE", body):
            case {"purged": int(purged)}:
                return purged
            case _:
                return 0

    async def delete(self, sequence: int) -> None:
        """Remove one message, if it is there."""
        await self._api("STREAM.MSG.DELETE", {"seq": sequence, "no_erase": True}, _NO_MESSAGE, _CANNOT_DELETE)

    async def listing(self, subjects: str, current: int) -> Listing:
        """What there is on the subjects that match, by a leader that knows the sequence `current`."""
        counts: dict[str, int] = {}
        while True:
            match await self._api("STREAM.INFO", {"subjects_filter": subjects, "offset": len(counts)}):
                case {"state": {"last_seq": int(last), **state}, **page}:
                    found = state.get("subjects")
                    found = found if isinstance(found, dict) else {}
                    if last < current:
                        raise StorageUnavailable("the cluster's list of blobs is not current yet: try again")
                    counts |= found
                    total = page.get("total", 0)
                    if not found or not isinstance(total, int) or len(counts) >= total:
                        return Listing(counts, last)
                case _:
                    raise StorageUnavailable("the cluster has no list of its blobs now: try again")

    async def barrier(self) -> int:
        """A sequence that a majority has just agreed upon: what is read of the leader is as new if it knows that."""
        return await self.write(Write(self._subjects.barrier, b"", only=True))

    async def stretch(self, subject: str, sequence: int, size: int) -> list[Message]:
        """About `size` bytes of what is on `subject` from `sequence` on, from any server: one that lags knows less."""
        await self._make()
        found: list[Message] = []
        client = self._client()
        try:
            inbox = client.new_inbox()
            subscription = await client.subscribe(inbox, pending_bytes_limit=-1, pending_msgs_limit=-1)
            try:
                request = {"next_by_subj": subject, "seq": sequence, "batch": 1024, "max_bytes": size}
                await client.publish(f"$JS.API.DIRECT.GET.{self._subjects.stream}", dump_json(request), reply=inbox)
                while True:
                    message = await subscription.next_msg(timeout=_NEXT_WITHIN)
                    headers = message.headers or {}
                    if "Status" in headers:  # the end, or that there is nothing, or nobody to ask
                        return found
                    found.append(Message(subject, int(headers["Nats-Sequence"]), message.data, headers))
            finally:
                with contextlib.suppress(nats.errors.Error, OSError):
                    await subscription.unsubscribe()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            if found:
                return found
            raise _unavailable(error) from error

    async def _message(self, body: Mapping[str, object]) -> Message | None:
        match await self._api("STREAM.MSG.GET", body, _NO_MESSAGE):
            case None:
                return None
            case {"message": {"subject": str(subject), "seq": int(sequence), **rest}}:
                return Message(subject, sequence, base64.b64decode(str(rest.get("data", ""))), {})
            case _:
                raise StorageUnavailable("the cluster's answer about blobs is not understood")

    async def _api(self, call: str, body: Mapping[str, object], *nothing: int) -> dict[str, object] | None:
        """The answer, None for the errors of which it means that there is nothing."""
        await self._make()
        try:
            return await self._ask(f"$JS.API.{call}.{self._subjects.stream}", dump_json(body))
        except _Refused as refused:
            if refused.code in nothing:
                return None
            raise _unavailable(refused) from refused
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise _unavailable(error) from error

    async def _make(self) -> None:
        """Make the bucket if it is not there."""
        async with self._making:
            if self._there:
                return
            name = self._subjects.stream
            try:
                try:
                    await self._ask(f"$JS.API.STREAM.INFO.{name}")
                except _Refused as refused:
                    if refused.code != _NO_STREAM:
                        raise
                    wanted = settings(self._subjects, await self._copies())
                    await self._ask(f"$JS.API.STREAM.CREATE.{name}", dump_json(wanted))
            except _Refused as refused:
                if refused.code != _NAME_TAKEN:
                    raise _unavailable(refused) from refused
            except (nats.errors.Error, OSError, TimeoutError) as error:
                raise _unavailable(error) from error
            self._there = True

    async def _copies(self) -> int:
        """On how many nodes to keep the bucket: operators may have raised that since the daemon was told."""
        if self._beside is None:
            return self._replicas
        match await self._ask(f"$JS.API.STREAM.INFO.{self._beside}"):
            case {"config": {"num_replicas": int(replicas)}}:
                return replicas
            case _:
                raise StorageUnavailable("the cluster's answer about records is not understood")

    async def _ask(self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None) -> dict[str, object]:
        async with asyncio.timeout(WITHIN):
            answer = await self._client().request(subject, body, timeout=WITHIN, headers=headers or None)
        try:
            found = load_json(answer.data)
        except InvalidInput as error:
            raise StorageUnavailable("the cluster's answer about blobs is not understood") from error
        match found:
            case {"error": {"err_code": int(code), **described}}:
                self._there = self._there and code != _NO_STREAM
                raise _Refused(code, str(described.get("description", "")), described.get("code"))
            case dict():
                return found
            case _:
                raise StorageUnavailable("the cluster's answer about blobs is not understood")


def _unavailable(error: Exception) -> StorageUnavailable:
    match error:
        case nats.errors.NoRespondersError() | _Refused(status=503):
            return NoQuorum("the cluster has no leader for blobs now: try again, and see that most of its nodes run")
        case TimeoutError():
            said = "the cluster did not answer about blobs in time: what was asked may have been done, try again"
        case _Refused():
            said = f"the cluster refuses to read or write blobs ({error}): see nats-server's log"
        case _:
            said = "this node has lost its connection to the cluster's blobs: try again"
    return StorageUnavailable(said)
