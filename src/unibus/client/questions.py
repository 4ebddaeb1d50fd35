"""Questions between two members: those that were asked here and wait, and those that came in.

An answer counts only from who was asked, and only for the random id that the question carried inside its ciphertext.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from unibus.client.signal_rules import ANSWER, DECLINED, ID_BYTES, QUESTION, Directed, check_size
from unibus.crypto.encoding import b64u
from unibus.errors import Declined, FrameInvalid, NobodyThere, UnibusError

Send = Callable[[str, Directed], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Question:
    """One verified question: `sender` is a member's public nkey, `handle` their name, `data` what they ask."""

    room: str
    sender: str
    handle: str
    data: bytes
    sent_at: datetime
    _id: bytes = field(repr=False)
    _send: Send = field(repr=False)

    @property
    def text(self) -> str:
        """`data` as UTF-8 text; what is not UTF-8 is replaced."""
        return self.data.decode(errors="replace")

    async def answer(self, data: str | bytes) -> None:
        """Answer; who asked takes the first answer that comes in time. Raises TooLarge, Forbidden, BusUnavailable."""
        raw = data.encode() if isinstance(data, str) else data
        await self._send(self.sender, Directed(ANSWER, self._id, check_size(raw)))

    async def decline(self, reason: str = "") -> None:
        """Say that there will be no answer. Raises as `answer`."""
        await self._send(self.sender, Directed(DECLINED, self._id, check_size(reason.encode())))


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One question on its way to `target`, called `handle`. The bus names it by `token` and never sees the `id`."""

    target: str
    handle: str
    answer: "asyncio.Future[bytes]"
    id: bytes = field(default_factory=lambda: secrets.token_bytes(ID_BYTES))
    token: str = field(default_factory=lambda: b64u(secrets.token_bytes(16)))

    def directed(self, data: bytes) -> Directed:
        """The question, asking `data`."""
        return Directed(QUESTION, self.id, data)


class Book:
    """The questions that wait for their answers."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Asked] = {}

    @contextmanager
    def asking(self, target: str, handle: str) -> Generator[Asked, None, None]:
        """A question that is waited for until the end of the block."""
        asked = Asked(target, handle, asyncio.get_running_loop().create_future())
        self._waiting[asked.id] = asked
        try:
            yield asked
        finally:
            del self._waiting[asked.id]
            if not asked.answer.cancel() and not asked.answer.cancelled():
                asked.answer.exception()  # also where it came too late for anybody to hear it

    def answered(self, sender: str, said: Directed) -> None:
        """Take an answer. One that nobody waits for, any more, is passed over. Raises FrameInvalid for another's."""
        asked = self._waiting.get(said.id)
        if asked is None:
            return
        if asked.target != sender:
            raise FrameInvalid(f"an answer to a question that {asked.handle} was asked, from somebody else")
        if asked.answer.done():
            return
        if said.kind == ANSWER:
            asked.answer.set_result(said.data)
        else:
            reason = said.data.decode(errors="replace")
            asked.answer.set_exception(Declined(f"{asked.handle} declines: {reason}" if reason else ""))

    def absent(self, token: str) -> None:
        """The bus found nobody who hears the question called `token`."""
        for asked in self._waiting.values():
            if asked.token == token and not asked.answer.done():
                asked.answer.set_exception(NobodyThere(f"{asked.handle} is not listening in this room now"))

    def fail(self, error: UnibusError) -> None:
        """No answer can come any more."""
        for asked in self._waiting.values():
            if not asked.answer.done():
                asked.answer.set_exception(error)
