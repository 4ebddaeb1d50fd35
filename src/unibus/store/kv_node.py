"""A node's part in the cluster's bucket: connected, following, giving signs of life, for as long as the store is open.

It says at any moment whether what can be read here is current. Must never say so without a proof, nor throw away a
replica silently that holds what the cluster has lost.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import nats.errors
from nats.aio.client import Client
from structlog.typing import FilteringBoundLogger

from unibus.errors import NoQuorum, StorageUnavailable
from unibus.store.kv_bucket import NO_QUORUM, Bucket
from unibus.store.kv_entry import node_key
from unibus.store.kv_follower import REPLACED, Applied, Follower, NodeBeat, Replaced, digest
from unibus.store.kv_progress import Progress
from unibus.store.kv_replica import Replica, replace_replica
from unibus.store.sqlite_errors import CLOSED
from unibus.store.sqlite_plan import Place
from unibus.tasks import end_tasks

BEAT_EVERY = 1.0
_AGAIN = 0.1  # seconds until the next sign of life is tried after one failed
_DIAL_AGAIN = (0.1, 0.1, 0.1, 0.2, 0.2, 0.5, 0.5, 1.0)
_ASK_AFTER = 0.05  # seconds until what was acknowledged is asked for if it is not told
_GIVE_UP = 30.0  # seconds without quorum after which all is looked at anew: the bucket may be gone
_CLOSE_WITHIN = 2.0
_CATCHING_UP = "it reads what it missed"
_NO_SERVER = "its nats-server does not answer"

Dial = Callable[[], Awaitable[Client]]


class KvNode:
    """Made in a running event loop; `run` does the work and `close` ends it."""

    def __init__(
        self,
        replica: Replica,
        path: Path,
        dial: Dial,
        *,
        bucket: str,
        node: str,
        replicas: int,
        log: FilteringBoundLogger,
        monotonic: Callable[[], float],
        lease: float,
        beat: Callable[[], bytes],
        heard: Callable[[Sequence[Applied]], None],
    ) -> None:
        self.replica = replica
        self.progress = Progress(lease)
        self.nodes: dict[str, NodeBeat] = {}
        self._path = path
        self._dial = dial
        self._name = bucket
        self._key = node_key(node)
        self._replicas = replicas
        self._log = log
        self._now = monotonic
        self._beat = beat
        self._heard = heard
        self._bucket: Bucket | None = None
        self._follower: Follower | None = None
        self._trouble: StorageUnavailable = _behind("it has just started")
        self._proving = asyncio.Lock()
        self._closing = False
        self._task = asyncio.create_task(self._run(), name="kv node")

    @property
    def bucket(self) -> Bucket:
        """The bucket over the connection there is. Raises StorageUnavailable without one."""
        if self._bucket is None:
            raise _again(self._trouble)
        return self._bucket

    def refusal(self) -> StorageUnavailable | None:
        """Why nothing may be read here now, ready to be raised; None when what can be read is current."""
        return None if self.progress.current(self._now()) else _again(self._trouble)

    def began(self) -> float:
        """The time to hand to `Progress.acknowledged` for a write that begins now."""
        return self._now()

    async def prove(self) -> int:
        """Give a sign of life; its sequence. Once that is reached it proves this node current.

        Raises Replaced, and as `Bucket.put`.
        """
        began, before = self._now(), self.progress.applied
        sequence = await self.bucket.put(self._key, self._beat())
        if sequence <= before:
            raise Replaced(REPLACED)
        self.progress.acknowledged(sequence, began)
        return sequence

    async def sync(self) -> None:
        """Return once a proof that began after the call holds. Raises TimeoutError and as `Bucket.put`."""
        asked = self._now()
        async with self._proving:  # those that wait for one proof share the next
            if not self.progress.proven_since(asked):
                await self.reach(await self.prove())

    async def reach(self, sequence: int) -> None:
        """Return once the replica has what was acknowledged with this sequence."""
        if self.progress.applied >= sequence:
            return
        reached = asyncio.ensure_future(self.progress.reach(sequence))
        try:
            await asyncio.wait([reached], timeout=_ASK_AFTER)
            if not reached.done() and self._follower is not None:
                self._follower.want(sequence)
            await reached
        finally:
            reached.cancel()

    async def close(self) -> None:
        """Let go of the connection and the replica."""
        self._closing = True
        await end_tasks(self._task, again=2 * _CLOSE_WITHIN)
        self._trouble = StorageUnavailable(CLOSED)
        self.progress.void()
        await self.replica.close()

    async def _run(self) -> None:
        tries, named = 0, ""
        while not self._closing:  # nats-py swallows cancellations while it closes
            try:
                client = await self._dial()
                try:
                    await self._live(client)
                finally:
                    if self._follower is not None:
                        tries, named = 0, ""
                    self._bucket = self._follower = None
                    self._trouble = _behind(_NO_SERVER)  # until the reason is known
                    await _close(client)
            except Replaced as error:
                self._void(error.message)
                self._log.warning("this node looks at the cluster anew", reason=error.message)
            except StorageUnavailable as error:
                self._trouble = error if isinstance(error, NoQuorum) else _behind(error.message)
                if error.message != named:  # without a quorum it is the same for minutes
                    self._log.warning("this node does not follow the cluster now", reason=error.message)
                named = error.message
            except (nats.errors.Error, OSError) as error:
                self._trouble = _behind(_NO_SERVER)
                self._log.warning("this node does not reach its nats-server now", reason=str(error))
            except Exception:  # noqa: BLE001 - whatever it was, the node has to come back
                self._trouble = _behind("it has met an error that its log tells of")
                self._log.exception("following the cluster broke")
            await asyncio.sleep(_DIAL_AGAIN[min(tries, len(_DIAL_AGAIN) - 1)])
            tries += 1

    async def _live(self, client: Client) -> None:
        bucket = Bucket(client, self._name, self._now)
        stream = await bucket.ensure(self._replicas)
        # Acknowledged by a majority, so what is asked next is not asked of a leader that was deposed.
        try:
            await bucket.put(self._key, self._beat())
        except TimeoutError as error:
            raise NoQuorum(NO_QUORUM) from error
        await self._fit(bucket, stream)
        follower = Follower(bucket, self.replica, self.progress, stream, self.nodes, self._heard, self._log)
        listening = await bucket.listen(follower.told)
        await follower.look()
        self._bucket, self._follower = bucket, follower
        self._trouble = _behind(_CATCHING_UP)
        tasks = [
            asyncio.create_task(listening(), name="kv feed"),
            asyncio.create_task(follower.run(), name="kv follower"),
            asyncio.create_task(self._give_signs(), name="kv signs of life"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            raise nats.errors.ConnectionClosedError
        finally:
            await end_tasks(*tasks)

    async def _fit(self, bucket: Bucket, stream: str) -> None:
        """Go on where the replica is, or anew if the stream does not hold what the replica took from it."""
        place = await self.replica.place()
        if place.sequence:
            found = await bucket.stored(place.sequence) if place.stream == stream else None
            if found is None or digest(found) != place.digest:
                self._void("the cluster does not hold what this node has seen of it")
                self.replica, kept = await replace_replica(self.replica, self._path)
                self._log.error(
                    "the cluster lost acknowledged records; this node's copy is built anew and the old one kept",
                    kept=str(kept),
                    same_bucket=place.stream == stream,
                    sequence=place.sequence,
                )
                place = Place(stream, 0, b"")
        self.progress.restart(place.sequence)

    async def _give_signs(self) -> None:
        failing_since: float | None = None
        while True:
            pause = BEAT_EVERY
            try:
                sequence = await self.prove()
                self._trouble, failing_since = _behind(_CATCHING_UP), None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_EVERY):
                        await self.reach(sequence)
            except Replaced:
                raise
            except (StorageUnavailable, TimeoutError) as error:
                self._trouble = error if isinstance(error, StorageUnavailable) else NoQuorum(NO_QUORUM)
                failing_since = self._now() if failing_since is None else failing_since
                if self._now() - failing_since > _GIVE_UP:
                    raise _again(self._trouble) from error
                pause = _AGAIN
            await asyncio.sleep(pause)

    def _void(self, why: str) -> None:
        self.progress.void()
        self._trouble = _behind(why)


def _again(trouble: StorageUnavailable) -> StorageUnavailable:
    # One that was raised before would drag along where that was.
    return type(trouble)(trouble.message)


def _behind(why: str) -> StorageUnavailable:
    return StorageUnavailable(f"this node has not caught up with the cluster yet: {why}; try again or ask another node")


async def _close(client: Client) -> None:
    # On a connection that breaks at this moment close() can wait for ever.
    with contextlib.suppress(TimeoutError, nats.errors.Error, OSError):
        async with asyncio.timeout(_CLOSE_WITHIN):
            await client.close()
