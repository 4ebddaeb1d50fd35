"""What a bus remembers of having been put back from a backup: when, so that nothing spent before is good again.

Spent nonces are not in a backup. Instead no request is good that could have been used before the restore: none that was
signed up to a whole window after it, because a signer's clock may be that far ahead.
"""

from unibus.crypto.encoding import dump_json, load_json
from unibus.crypto.httpsig import WINDOW
from unibus.errors import StorageUnavailable
from unibus.store.port import Append, Store

LOG = "restores"


async def note_restore(store: Store, at: int, backup: str) -> None:
    """Note that the store was put back at the Unix time `at` from the backup with the digest `backup`."""
    last = await store.last(LOG)
    entry = {"at": at, "backup": backup, "floor": at + WINDOW}
    await store.append(Append(LOG, last.position + 1 if last else 1, dump_json(entry)))


async def floor(store: Store) -> int:
    """The Unix time up to which no signed request is good; 0 for a bus that was never restored."""
    last = await store.last(LOG)
    if last is None:
        return 0
    match load_json(last.value):
        case {"floor": int(seconds)}:
            return seconds
        case _:
            raise StorageUnavailable("the note of the last restore is damaged: restore from a backup")
