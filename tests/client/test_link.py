"""The link to the bus never leaves anybody waiting for a connection that cannot come."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from nats.errors import Error as NatsError

from unibus.client.link import Link, unheard
from unibus.crypto.identity import Identity
from unibus.errors import BusUnavailable, NotAUser, Unreachable

ADA = Identity.from_secret(bytes(32))


@asynccontextmanager
async def linked(
    locate: Callable[[], Awaitable[tuple[str, None]]], allowed: Callable[[], Awaitable[object]]
) -> AsyncIterator[Link]:
    """A link whose questions the test answers."""
    link = Link(
        ADA,
        locate=locate,
        allowed=allowed,
        may_hear=lambda _: True,
        may_write=lambda _: True,
        on_event=lambda _: None,
        on_up=lambda: None,
    )
    try:
        yield link
    finally:
        await link.close()


async def _yes() -> None:
    """This identity is on the bus."""


@pytest.mark.parametrize("trouble", [TimeoutError(), Unreachable("nobody there"), ConnectionRefusedError()])
async def test_it_goes_on_while_nobody_says_where_the_bus_is(trouble: Exception) -> None:
    asked, often = 0, asyncio.Event()

    async def nowhere() -> tuple[str, None]:
        nonlocal asked
        asked += 1
        if asked == 3:
            often.set()
        raise trouble

    async with linked(nowhere, _yes) as link:
        waiting = asyncio.ensure_future(link.connection())
        async with asyncio.timeout(10):
            await often.wait()
        assert not waiting.done()
        await link.close()
        with pytest.raises(BusUnavailable, match="is closed"):
            await waiting


async def test_an_address_that_is_none_is_told_and_not_waited_for() -> None:
    async def nonsense() -> tuple[str, None]:
        return "nats://[half:4250", None

    async with linked(nonsense, _yes) as link, asyncio.timeout(10):
        with pytest.raises(BusUnavailable, match="cannot be kept up"):
            await link.connection()


async def test_who_is_off_the_bus_hears_it() -> None:
    async def nobody() -> tuple[str, None]:
        raise ConnectionRefusedError

    async def revoked() -> None:
        raise NotAUser

    async with linked(nobody, revoked) as link, asyncio.timeout(10):
        with pytest.raises(NotAUser):
            await link.connection()


@pytest.mark.parametrize(
    ("error", "too_busy"),
    [
        (TimeoutError(), True),
        (NatsError("nats: 'Authentication Timeout'"), True),
        (NatsError("nats: 'Authorization Violation'"), False),
        (NatsError("nats: unexpected EOF"), False),
        (ConnectionResetError(), False),
        (Unreachable("nobody there"), False),
    ],
)
def test_a_bus_with_too_much_to_do_has_said_nothing_about_this_identity(error: Exception, too_busy: bool) -> None:
    assert unheard(error) is too_busy


async def test_a_bus_with_too_much_to_do_is_not_asked_even_more() -> None:
    tried, often, asked = 0, asyncio.Event(), 0

    async def busy() -> tuple[str, None]:
        nonlocal tried
        tried += 1
        if tried == 3:
            often.set()
        raise TimeoutError

    async def count() -> None:
        nonlocal asked
        asked += 1

    async with linked(busy, count) as link, asyncio.timeout(10):
        link.start()
        await often.wait()
        assert asked == 0
