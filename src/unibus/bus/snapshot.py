"""The stream of frames as one file, and back, by JetStream's own snapshots: every frame keeps its sequence number.

Memory stays the same whatever the size: JetStream sends as fast as its chunks are acknowledged, which is after they are
written.
"""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import BinaryIO

import nats.errors

from unibus.bus import stream
from unibus.bus.links import Links
from unibus.errors import BackupInvalid, BusUnavailable
from unibus.model.subjects import STREAM
from unibus.services.ports import StreamState

CHUNK = 128 * 1024
STALLED = 60.0
"""Seconds without the next chunk, or its acknowledgement, after which the server is taken for gone."""
DIGESTED = 3600.0
"""Seconds that the server may take to make a stream of all it was sent."""
SETTLED = 5.0
"""Seconds within which a new stream shows all that is in it."""
_LOOK = 0.1
_WHOLE = (None, "204")
"""The status of the empty message that ends a snapshot, if all went well; any other tells why not."""


async def save(links: Links, path: Path) -> StreamState:
    """Write the stream, without its consumers, to the new file `path`. Raises BusUnavailable, OSError."""
    inbox = links.core.new_inbox()
    chunks = await links.core.subscribe(inbox)
    try:
        asked = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK}
        state = read_state(await links.jetstream(f"STREAM.SNAPSHOT.{STREAM}", asked))
        with path.open("xb") as file:
            while True:
                chunk = await chunks.next_msg(timeout=STALLED)
                if not chunk.data:
                    break
                await asyncio.to_thread(file.write, chunk.data)
                if chunk.reply:  # not every chunk wants to be acknowledged
                    await links.core.publish(chunk.reply)
    except (nats.errors.Error, TimeoutError) as error:
        raise BusUnavailable("nats-server broke off while the messages were copied: try again") from error
    finally:
        if not links.core.is_closed:
            await chunks.unsubscribe()
    status = (chunk.headers or {}).get("Status")
    if status not in _WHOLE:
        raise BusUnavailable(f"nats-server broke off while the messages were copied ({status}): try again")
    return state


async def load(links: Links, path: Path, state: StreamState, max_payload: int, replicas: int = 1) -> None:
    """Make the stream, of so many `replicas`, out of the file `path`.

    Its settings are ours, whatever the file says. Raises BackupInvalid when nats-server cannot read the file or finds
    something else in it than `state`, BusUnavailable.
    """
    request = {
        "config": stream.wanted(max_payload, replicas),
        "state": {"messages": state.messages, "bytes": state.bytes, "first_seq": state.first, "last_seq": state.last},
    }
    begun = await links.jetstream(f"STREAM.RESTORE.{STREAM}", request)
    match begun:
        case {"deliver_subject": str(target)}:
            pass
        case _:
            raise BusUnavailable("nats-server takes no snapshot")
    with path.open("rb") as file:
        made = await _send(links, target, file)
    if "error" in made:
        raise BackupInvalid("nats-server cannot read its messages")
    if await _settled(links, state) != state:
        raise BackupInvalid("it holds other messages than its manifest says")


async def held(links: Links) -> StreamState | None:
    """What the stream holds, None if there is none. Raises BusUnavailable."""
    info = await links.jetstream(f"STREAM.INFO.{STREAM}")
    return None if info is None else read_state(info)


async def _settled(links: Links, state: StreamState) -> StreamState | None:
    """What the stream holds once it is `state`, or after a while: a cluster chooses who leads it first."""
    found = await held(links)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLED):
            while found != state:
                await asyncio.sleep(_LOOK)
                with contextlib.suppress(BusUnavailable):
                    found = await held(links)
    return found


async def _send(links: Links, target: str, file: BinaryIO) -> dict[str, object]:
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            reply = await links.unless_lost(links.core.request(target, chunk, timeout=STALLED))
            if reply.data:
                raise BackupInvalid("nats-server cannot read its messages")
        reply = await links.unless_lost(links.core.request(target, b"", timeout=DIGESTED))
        made = json.loads(reply.data)
    except (nats.errors.Error, TimeoutError, ValueError) as error:
        raise BusUnavailable("nats-server broke off while it took the messages in") from error
    return made if isinstance(made, dict) else {}


def read_state(answer: dict[str, object] | None) -> StreamState:
    """What a stream holds by a STREAM.INFO answer. Raises BusUnavailable."""
    match answer:
        case {"state": {"messages": int(m), "bytes": int(b), "first_seq": int(first), "last_seq": int(last)}}:
            # A stream that never held a message begins at 0 or at 1, as it likes.
            return StreamState(messages=m, bytes=b, first=max(1, first), last=last)
        case _:
            raise BusUnavailable("nats-server's description of the stream is not understood")
