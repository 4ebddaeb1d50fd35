"""What is said of a bus that is moved from one node into a cluster: the digest of all it holds, and how far it is.

Pure. A manifest names the parts of the bus as that of a backup does, so that one set of rules verifies both.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import Field

from unibus.crypto.encoding import b64u, dump_json
from unibus.model.backup import Header, Line, Messages, Records
from unibus.model.bodies import Digest, Strict

Number = Annotated[int, Field(ge=0)]


class MoveView(Strict):
    """How far a move into this cluster is: `source` is the digest of what is moved, `messages` whether they are there.

    `done` of `of` is how far the node is with what it is `doing`.
    """

    stage: Literal["none", "begun", "finished"]
    bus: Digest | None = None
    source: Digest | None = None
    messages: bool = False
    doing: str = ""
    done: Number = 0
    of: Number = 0


def contents(lines: Iterable[Line]) -> str:
    """The digest of what a manifest says that a bus holds: the same for each copy of one that stands still.

    How the copies are written in files, and when, is no part of it.
    """
    hasher = sha256()
    for line in lines:
        match line:
            case Header():
                kept = line.model_dump(include={"bus"})
            case Messages():
                kept = line.model_dump(exclude={"size", "sha256"})
            case Records():
                continue
            case _:
                kept = line.model_dump()
        hasher.update(dump_json(kept) + b"\n")
    return b64u(hasher.digest())
