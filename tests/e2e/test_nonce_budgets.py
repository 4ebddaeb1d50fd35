"""What a key may seal has an end, and a new key begins before it: no nonce twice, and nothing beyond the budget."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from tests.builders import identity
from tests.support.people import WAIT, Place, tail
from unibus.client.sealer import Sealer, Session
from unibus.crypto.blobs import CHUNK, MAX_CHUNKS, chunks, seal_chunks
from unibus.crypto.frames import MAX_COUNTER, MAX_FRAME, SESSION_BYTES, Content, read_envelope, seal_frame
from unibus.crypto.heads import EMPTY
from unibus.crypto.roomkey import EpochRef
from unibus.daemon.node import Node
from unibus.errors import TooLarge

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"
EPOCH = EpochRef("b" * 43, "r" * 26, 1)


async def test_a_session_ends_before_its_budget_and_no_nonce_is_used_twice(node: tuple[Node, Place]) -> None:
    """With a budget of three large frames, ten of them take four sessions; readers take all of them."""
    _, place = node
    await place.found()
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        room = await ada.create_room("ops")
        sealer = Sealer(ada, room, session_bytes=3 * MAX_FRAME)
        frames = [(await sealer.ready(doubt=False))([bytes(900_000)]) for _ in range(10)]
        nonces = [(frame.session, frame.counter) for frame in map(read_envelope, frames)]
        assert len(set(nonces)) == 10
        assert len({session for session, _ in nonces}) == 4
        assert all(now[0] != then[0] or now[1] == then[1] + 1 for then, now in pairwise(nonces))
        connection = await ada.link.connection(room.id)
        for frame in frames:
            await connection.nats.publish(f"room.{room.id}.msg.{ada.user}", frame)
        async with tail(room) as reading:
            assert [len(text) for text in await reading.until(10)] == [900_000] * 10
            assert reading.refused == []


@pytest.mark.parametrize(
    ("counter", "size", "spent"),
    [
        (0, 0, False),
        (MAX_COUNTER - 1, 0, False),
        (MAX_COUNTER, 0, True),
        (1, SESSION_BYTES - MAX_FRAME, False),
        (1, SESSION_BYTES - MAX_FRAME + 1, True),
    ],
)
def test_a_session_is_spent_when_another_frame_might_exceed_either_budget(counter: int, size: int, spent: bool) -> None:
    session = Session(1, SESSION_BYTES)
    session.counter, session.bytes = counter, size
    assert session.spent is spent


def test_each_session_has_an_id_of_its_own() -> None:
    assert len({Session(1, SESSION_BYTES).id for _ in range(1000)}) == 1000


def test_nothing_is_sealed_beyond_a_budget() -> None:
    content, key = Content(0, EMPTY, EMPTY, (b"x",)), bytes(32)
    seal_frame(identity("ada").signing, key, EPOCH, bytes(16), MAX_COUNTER - 1, content)
    with pytest.raises(TooLarge, match="begin another"):
        seal_frame(identity("ada").signing, key, EPOCH, bytes(16), MAX_COUNTER, content)
    seal_chunks(key, b"x", MAX_CHUNKS - 1, ends=True)
    with pytest.raises(TooLarge, match="2\\^32 chunks"):
        seal_chunks(key, b"x", MAX_CHUNKS, ends=True)
    with pytest.raises(TooLarge):
        chunks(MAX_CHUNKS * CHUNK + 1)


def test_the_budgets_are_those_that_are_written_down() -> None:
    text = DOCUMENT.read_text()
    assert (MAX_COUNTER, SESSION_BYTES) == (2**32, 2**40)
    assert "2^32 frames and 2^40 bytes" in text
    assert (
        f"| frames in a session | {MAX_COUNTER:,} |\n| bytes of all frames in a session | {SESSION_BYTES:,} |" in text
    )
    # 2^36 blocks of 16 bytes under one key: their square, over 2^129.
    assert (SESSION_BYTES // 16) ** 2 / 2**129 == 2**-57
    assert (MAX_CHUNKS * CHUNK // 16) ** 2 / 2**129 == 2**-41
