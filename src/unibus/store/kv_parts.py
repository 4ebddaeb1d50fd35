"""The end of parts that no entry refers to, because whoever wrote them ended before it wrote the entry.

Must never take a part that an entry refers to, or is about to. So the place after the parts is filled first, with
nothing: a writer writes its parts in order and the last one together with the entry, so none refers to them from then
on. Whoever did before is found by reading all that the cluster took from the parts up to there.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from unibus.crypto.encoding import unb64u
from unibus.errors import InvalidInput, StorageUnavailable
from unibus.store.kv_bucket import Create, Message
from unibus.store.kv_entry import Unreadable, part_key, read_head
from unibus.store.kv_node import KvNode
from unibus.store.kv_writer import told

FILLED = 7 * 86_400
"""Seconds for which the place after swept parts stays filled: no connection lives as long whose writer stands still."""
_FEW = 8  # messages; an entry follows its last part at once, or after what other nodes wrote meanwhile
_PAUSE = 0.02  # seconds between two questions to a server that is behind
_LATE = "the cluster did not say in time what refers to parts of records: they stay"


class _Suspect(NamedTuple):
    """Parts that nothing seems to refer to: the sequences of the first one, and of what fills the place after them."""

    part: int
    end: int


class PartSweep:
    """Sweeps the bucket of `node`. It remembers which parts are referred to, so that each is looked at only once."""

    def __init__(self, node: Callable[[], KvNode]) -> None:
        self._node = node
        self._kept: set[bytes] = set()

    async def sweep(self, before: float) -> int:
        """Drop what nothing refers to and was taken before the Unix time `before`: of how many entries that was.

        Raises StorageUnavailable; what is left is dropped by a later sweep.
        """
        listed = await self._listed()
        self._kept &= listed.keys()
        suspects = {}
        for tag in listed.keys() - self._kept:
            if suspect := await self._suspect(tag, listed[tag], before):
                suspects[tag] = suspect
        if suspects:
            self._keep(suspects, await self._referred(suspects.values()))
        for tag, suspect in suspects.items():
            async with told(_LATE):
                await self._node().bucket.purge(part_key(tag, "*"), suspect.end)
        return len(suspects)

    async def _listed(self) -> dict[bytes, int]:
        """The number of the last part there is, for each tag. Without a first part nothing is left to sweep."""
        async with told(_LATE):
            found = [_read(key) for key in await self._node().bucket.keys("part.>")]
        numbers = dict(sorted(filter(None, found)))  # the last one counts
        return {tag: numbers[tag] for tag, number in filter(None, found) if number == 0}

    async def _suspect(self, tag: bytes, number: int, before: float) -> _Suspect | None:
        bucket = self._node().bucket
        async with told(_LATE):
            last = await bucket.latest(part_key(tag, number))
            if not last or last[0].at >= before:
                return None
            if tag in _tags(await bucket.after(last[0].sequence, "log.>", _FEW)):
                self._kept.add(tag)
                return None
            # The last one may be what an earlier sweep filled a place with, after the entry.
            first = await bucket.latest(part_key(tag, 0))
            end = await bucket.create([Create(part_key(tag, number + 1), b"", FILLED)])
        return None if end is None or not first else _Suspect(first[0].sequence, end)

    async def _referred(self, suspects: Collection[_Suspect]) -> set[bytes]:
        """The tags that entries name, of all that the cluster took from the first part to the last end."""
        reached, end = min(suspect.part for suspect in suspects), max(suspect.end for suspect in suspects)
        found: set[bytes] = set()
        while reached < end:
            async with told(_LATE):
                while not (messages := await self._node().bucket.after(reached)):  # noqa: ASYNC110 - a server that is behind sends no event
                    await asyncio.sleep(_PAUSE)
            found |= _tags(messages)
            reached = messages[-1].sequence
        return found

    def _keep(self, suspects: dict[bytes, _Suspect], referred: set[bytes]) -> None:
        for tag in referred & suspects.keys():
            del suspects[tag]
            self._kept.add(tag)


def _read(key: str) -> tuple[bytes, int] | None:
    """The tag and the number behind a key that `part_key` made."""
    match key.split("."):
        case ["part", token, number] if number.isascii() and number.isdigit():
            try:
                return unb64u(token), int(number)
            except InvalidInput:
                pass
    return None


def _tags(messages: Sequence[Message]) -> set[bytes]:
    """The tags whose parts these messages refer to."""
    found = set()
    for message in messages:
        if message.key.startswith("log.") and not message.deleted:
            try:
                head = read_head(message.value)
            except Unreadable as error:
                raise StorageUnavailable(f"{message.key} cannot be read by this version: parts stay") from error
            if head.digests:
                found.add(head.tag)
    return found
