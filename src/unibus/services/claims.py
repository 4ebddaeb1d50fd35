"""Claims of the store, such as nonces, with the directory brought up to date after each.

Must never let anything be decided on a directory that is older than the claim.
"""

from collections.abc import Callable

from unibus.services.books import Books
from unibus.store.port import Store


class Claims:
    """Claims of the store. Whatever is decided after one is decided on a directory that is no older than the claim.

    `check_clock` raises StorageUnavailable while this node cannot tell what is fresh. On a node that is `alone` nobody
    else acknowledges anything.
    """

    def __init__(
        self, store: Store, books: Books, check_clock: Callable[[], None] = lambda: None, *, alone: bool = False
    ) -> None:
        self._store = store
        self._books = books
        self._check_clock = check_clock
        self._alone = alone

    async def claim(self, name: str, expires_at: int) -> bool:
        """See `Store.claim`."""
        self._check_clock()
        claimed = await self._store.claim(name, expires_at)
        await self._books.refresh()
        return claimed

    async def catch_up(self) -> None:
        """Bring the directory up to all that was acknowledged, by whichever node. Raises StorageUnavailable.

        In a cluster that takes one write, which all share that wait for it.
        """
        self._check_clock()
        self._books.check_read()
        if not self._alone:
            await self._store.sync()
        await self._books.refresh()
