"""Who loses a race for a log's next place goes on, and not for ever."""

import pytest

from unibus.client.races import until_first
from unibus.errors import HeadConflict, NotAUser


class Racing:
    """Loses so many times."""

    def __init__(self, losses: int) -> None:
        self.tries = 0
        self._losses = losses

    async def attempt(self) -> int:
        self.tries += 1
        if self.tries <= self._losses:
            raise HeadConflict
        return self.tries


async def test_somebody_who_often_loses_wins_in_the_end() -> None:
    assert await until_first(Racing(20).attempt) == 21


async def test_a_server_that_says_for_ever_that_another_was_first_is_left() -> None:
    racing = Racing(1_000_000)
    with pytest.raises(HeadConflict):
        await until_first(racing.attempt, within=0.2)
    assert 4 < racing.tries < 60


async def test_nothing_else_is_tried_again() -> None:
    tries = []

    async def attempt() -> None:
        tries.append(1)
        raise NotAUser

    with pytest.raises(NotAUser):
        await until_first(attempt)
    assert tries == [1]
