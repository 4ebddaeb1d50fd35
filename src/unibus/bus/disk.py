"""Whether the disk that messages lie on takes more. nats-server does not look: it fails when it is full.

After one write that failed it stores nothing more, also when there is space again: only a new life helps.
"""

import os
import re
from pathlib import Path

from unibus.errors import reason_of

SPACE = 16 * 2**20
"""Bytes below which the disk is as good as full: some of the largest frames, and what is written about them."""
HALTED = "a member's message has stopped it by a header"
"""The failure that `mending` ends. Nothing is wrong with the disk then."""
# At the beginning of a line, where no client chooses words.
_FAILED = re.compile(r"(?:Filestore \[[^\]]*\]|JetStream stream '[^']*') [Cc]ritical write error: (.*)")


def failed_write(line: str) -> str:
    """Why the store takes no more, if a line of nats-server's log says that; else empty."""
    found = _FAILED.match(line)
    if found is None:
        return ""
    # What follows in this one was chosen by a member, and is shown to nobody.
    return HALTED if found[1].startswith("last msgid mismatch: ") else found[1].rpartition(": ")[2]


def shortage(directory: Path) -> str:
    """What to tell people when the disk under `directory` is as good as full; else empty."""
    try:
        facts = os.statvfs(directory)
    except OSError as error:
        return f"the disk for messages cannot be looked at: {reason_of(error)}"
    free = facts.f_bavail * facts.f_frsize
    return f"the disk for messages has {free >> 20} MiB left: make room on it" if free < SPACE else ""
