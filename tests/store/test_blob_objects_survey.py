"""Questions that are asked some at a time: answered in order, and none is left open when one of them fails."""

import asyncio

import pytest

from unibus.errors import StorageUnavailable
from unibus.store.blob_objects_survey import some_at_once


async def test_answers_come_in_the_order_of_the_questions() -> None:
    async def ask(name: str) -> str:
        await asyncio.sleep(0.001 * (3 - int(name)))
        return name

    assert await some_at_once(ask, ["0", "1", "2"]) == ["0", "1", "2"]


async def test_when_one_fails_the_others_have_ended_too() -> None:
    opened, ended = list[str](), list[str]()

    async def ask(name: str) -> None:
        opened.append(name)
        try:
            if name == "bad":
                raise StorageUnavailable
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    with pytest.raises(StorageUnavailable):
        await some_at_once(ask, ["good", "bad", "late"])
    assert sorted(opened) == sorted(ended) == ["bad", "good", "late"]
