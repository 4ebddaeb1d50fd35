"""Bad input sent to a real node, a row of `bad_rows` each: the status, the problem, and that nothing changed."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.builders import ANY_DIGEST
from tests.e2e.conftest import options
from tests.http.bad_input import QUICK, Stage
from tests.http.bad_rows import ROWS, Row, room_change
from tests.support.people import Place

from unibus.daemon.node import Node
from unibus.model.bodies import RoomRename

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One node for all rows, because none of them changes it."""
    data_dir = tmp_path_factory.mktemp("bad") / "data"
    async with Node(replace(options(data_dir), limits=QUICK)) as node:
        stage = Stage(node, Place(f"http://127.0.0.1:{node.http_port}", data_dir))
        await stage.set()
        yield stage


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_bad_input_is_refused_and_changes_nothing(stage: Stage, row: Row) -> None:
    before = stage.kept()
    answer = await stage.send(row.send(stage))
    assert answer is not None
    assert (answer.status, answer.problem) == (row.status, row.problem), answer.members
    assert answer.headers["content-type"] == "application/problem+json"
    assert stage.kept() == before
    genuine = await stage.send(stage.read())
    assert genuine is not None
    assert genuine.status == 200


async def test_a_body_that_is_cut_off_changes_nothing(stage: Stage) -> None:
    before = stage.kept()
    whole = stage.change_directory(stage.story.admission("zoe"))
    assert await stage.send(whole[:-10], then_close=True) is None
    assert stage.kept() == before


async def test_a_replayed_request_is_refused_and_changes_nothing(stage: Stage) -> None:
    request = stage.read()
    first = await stage.send(request)
    before = stage.kept()
    again = await stage.send(request)
    assert first is not None
    assert again is not None
    assert (first.status, again.status, again.problem) == (200, 401, "nonce-replayed")
    assert stage.kept() == before


async def test_a_conflict_tells_the_head(stage: Stage) -> None:
    answer = await stage.send(room_change("prev", ANY_DIGEST)(stage))
    head = stage.room.state.head
    assert answer is not None
    assert (answer.members["sequence"], answer.members["hash"]) == (head.sequence, head.hash)


async def test_the_same_record_twice_is_one_record(tmp_path: Path) -> None:
    async with Node(options(tmp_path / "data")) as node:
        stage = Stage(node, Place(f"http://127.0.0.1:{node.http_port}", tmp_path / "data"))
        await stage.set()
        before, rotation = stage.kept(), stage.room.rotation()
        answers = [await stage.send(stage.change_room(rotation)) for _ in range(3)]
        first = stage.kept()
        assert first != before
        answers.append(await stage.send(stage.change_room(rotation)))
        assert stage.kept() == first
        assert {(answer.status, json.dumps(answer.members)) for answer in answers if answer} == {
            (201, json.dumps({"sequence": 4, "hash": stage.room.take(rotation).head.hash}))
        }


async def test_of_racing_appends_one_wins_and_the_others_hear_its_head(tmp_path: Path) -> None:
    async with Node(options(tmp_path / "data")) as node:
        stage = Stage(node, Place(f"http://127.0.0.1:{node.http_port}", tmp_path / "data"))
        await stage.set()
        renames = [stage.room.sign("ada", RoomRename(name=f"name {number}")) for number in range(8)]
        answers = await asyncio.gather(*(stage.send(stage.change_room(change)) for change in renames))
        heads = {(answer.members["sequence"], answer.members["hash"]) for answer in answers if answer}
        assert sorted(answer.status for answer in answers if answer) == [201] + [409] * 7
        assert {answer.problem for answer in answers if answer} == {None, "head-conflict"}
        assert len(heads) == 1
        assert (await node.books.room(stage.room.id)).head.sequence == heads.pop()[0]
