"""Founding, and the directory's only writer: what is refused changes nothing, what is taken has consequences."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import AT, RoomStory, Story, identity, user
from tests.services.running import TOKEN, Node, running
from unibus.errors import (
    BootstrapRefused,
    Forbidden,
    HeadConflict,
    InvalidInput,
    MalformedRecord,
    NotAUser,
    RuleBroken,
    UnibusError,
    WrongBus,
)
from unibus.model.bodies import UserRevoke
from unibus.model.records import DIRECTORY, write_record


@pytest.mark.parametrize(
    "token", ["", "bootstrap", TOKEN + " ", TOKEN.upper(), "bootstrap-token\0", "t\xf6ken", "\udcff"]
)
async def test_nobody_founds_the_bus_without_the_token(tmp_path: Path, token: str) -> None:
    async with running(tmp_path / "db") as node:
        with pytest.raises(BootstrapRefused):
            await node.membership.found(token, Story().records[0])
        assert await node.written() == {}
        await node.membership.found(TOKEN, Story().records[0])
        assert node.reading.bus_id() == Story().bus


async def test_a_node_without_a_token_is_not_founded_by_an_empty_one(tmp_path: Path) -> None:
    async with running(tmp_path / "db", bootstrap=None) as node:
        for token in ("", "None", TOKEN):
            with pytest.raises(BootstrapRefused):
                await node.membership.found(token, Story().records[0])


async def test_the_token_works_once(tmp_path: Path) -> None:
    async with running(tmp_path / "db") as node:
        await node.membership.found(TOKEN, Story().records[0])
        for story in (Story(), Story("eve")):
            with pytest.raises(BootstrapRefused):
                await node.membership.found(TOKEN, story.records[0])
        assert await node.written() == {DIRECTORY: Story().records}
    async with running(tmp_path / "db") as node:
        # Nor does one that was started again with it.
        with pytest.raises(BootstrapRefused):
            await node.membership.found(TOKEN, Story("eve").records[0])


async def test_of_two_founders_one_wins(tmp_path: Path) -> None:
    async with running(tmp_path / "db") as node:
        outcomes = await asyncio.gather(
            *(node.membership.found(TOKEN, Story(name).records[0]) for name in ("ada", "eve")), return_exceptions=True
        )
        assert sorted(isinstance(outcome, UnibusError) for outcome in outcomes) == [False, True]
        assert len((await node.written())[DIRECTORY]) == 1


async def test_the_token_is_spent_also_when_the_founder_is_gone(tmp_path: Path) -> None:
    async with running(tmp_path / "db") as node:
        node.effects.hold()
        request = asyncio.create_task(node.membership.found(TOKEN, Story().records[0]))
        await node.effects.reached.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        node.effects.held.set()
        await node.membership.close()
        assert node.effects.calls[-1] == ("founded",)
        with pytest.raises(BootstrapRefused):
            await node.membership.found(TOKEN, Story().records[0])


async def test_only_a_founding_record_founds(tmp_path: Path) -> None:
    story = Story()
    for raw, error in (
        (story.admission("bob"), WrongBus),
        (RoomStory(story).records[0], MalformedRecord),
        (b"junk", MalformedRecord),
    ):
        async with running(tmp_path / "db") as node:
            with pytest.raises(error):
                await node.membership.found(TOKEN, raw)
            assert await node.written() == {}


REFUSED: list[tuple[str, str, Callable[[Story], bytes], type[UnibusError]]] = [
    ("a member admits", "bob", lambda s: s.admission("zoe", by="bob"), Forbidden),
    ("a member brings the admin's record", "bob", lambda s: s.admission("zoe"), Forbidden),
    ("an admin brings a member's record", "ada", lambda s: s.admission("zoe", by="bob"), Forbidden),
    ("a stranger", "zoe", lambda s: s.admission("zoe", by="zoe"), NotAUser),
    ("a handle that is taken", "ada", lambda s: s.admission("zoe", handle="bob"), RuleBroken),
    ("the last admin", "ada", lambda s: s.revocation("ada"), RuleBroken),
    ("a founding", "eve", lambda _: Story("eve").records[0], RuleBroken),
    ("another bus", "eve", lambda _: Story("eve").admission("zoe", by="eve"), WrongBus),
    ("a room's record", "ada", lambda s: RoomStory(s).records[0], MalformedRecord),
    ("no record", "ada", lambda _: b"a.b.c", MalformedRecord),
    ("nothing", "ada", lambda _: b"", MalformedRecord),
    (
        "a clock that is slow",
        "ada",
        lambda s: write_record(
            identity("ada").signing, s.bus, DIRECTORY, s.directory.head, UserRevoke(user=user("bob")), at=AT - 301
        ),
        InvalidInput,
    ),
    (
        "a clock that is fast",
        "ada",
        lambda s: write_record(
            identity("ada").signing, s.bus, DIRECTORY, s.directory.head, UserRevoke(user=user("bob")), at=AT + 301
        ),
        InvalidInput,
    ),
]


@pytest.mark.parametrize(("actor", "forge", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_refused_and_nothing_changed(
    node: Node, story: Story, actor: str, forge: Callable[[Story], bytes], error: type[UnibusError]
) -> None:
    before = await node.written()
    with pytest.raises(UnibusError) as caught:
        await node.membership.append_directory(user(actor), forge(story))
    assert type(caught.value) is error
    assert await node.written() == before
    assert node.books.directory.head == story.directory.head
    assert node.effects.calls == []


async def test_an_admission_is_announced_to_all(node: Node, story: Story) -> None:
    raw = story.admission("zoe")
    head = await node.membership.append_directory(user("ada"), raw)
    story.take(raw)
    assert head == story.directory.head == node.books.directory.head
    everybody = frozenset(user(name) for name in ("ada", "bob", "cyd", "eve", "rex", "zoe"))
    assert node.effects.calls == [("announce", everybody, DIRECTORY, 6, head.hash)]


async def test_a_revocation_cuts_before_it_is_announced(node: Node, story: Story) -> None:
    head = await node.membership.append_directory(user("ada"), story.revocation("eve"))
    rest = frozenset(user(name) for name in ("ada", "bob", "cyd", "rex"))
    assert node.effects.calls == [("cut", user("eve")), ("announce", rest, DIRECTORY, 6, head.hash)]
    with pytest.raises(NotAUser):
        node.gate.user(user("eve"))


async def test_of_racing_admins_one_wins_and_the_other_learns_the_head(node: Node, story: Story) -> None:
    drafts = [story.admission(f"new{n}") for n in range(8)]
    outcomes = await asyncio.gather(
        *(node.membership.append_directory(user("ada"), raw) for raw in drafts), return_exceptions=True
    )
    lost = [outcome for outcome in outcomes if isinstance(outcome, HeadConflict)]
    assert len(lost) == 7
    head = node.books.directory.head
    assert head.sequence == 6
    assert all(error.extra == {"sequence": 6, "hash": head.hash} for error in lost)


async def test_a_writer_beside_this_node_is_noticed_and_caught_up_with(
    node: Node, story: Story, tmp_path: Path
) -> None:
    async with running(tmp_path / "unibus.db") as other:
        first = story.admission("zoe")
        head = await other.membership.append_directory(user("ada"), first)
        late = story.admission("yan")
        with pytest.raises(HeadConflict) as caught:
            await node.membership.append_directory(user("ada"), late)
        assert caught.value.extra == {"sequence": 6, "hash": head.hash}
        assert node.books.directory.head == head
        story.take(first)
        await node.membership.append_directory(user("ada"), story.admission("yan"))


async def test_a_repeated_record_is_answered_as_the_first_time(node: Node, story: Story) -> None:
    raw = story.admission("zoe")
    head = await node.membership.append_directory(user("ada"), raw)
    story.take(raw)
    await node.membership.append_directory(user("ada"), story.admission("yan"))
    node.effects.calls.clear()
    assert await node.membership.append_directory(user("ada"), raw) == head
    assert node.books.directory.head.sequence == 7
    assert node.effects.calls == []


async def test_a_request_that_is_gone_is_carried_out_whole_and_audited(node: Node, story: Story) -> None:
    node.effects.hold()
    request = asyncio.create_task(node.membership.append_directory(user("ada"), story.revocation("eve")))
    await node.effects.reached.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    node.effects.held.set()
    await node.membership.close()
    assert [call[0] for call in node.effects.calls] == ["cut", "announce"]
    assert not node.books.directory.active(user("eve"))
    last = (await node.audit.read(0, 100))[-1]
    assert (last.outcome, last.action, last.actor, last.target) == ("ok", "user.revoke", user("ada"), user("eve"))


async def test_a_request_that_is_gone_at_once_leaves_store_and_state_together(node: Node, story: Story) -> None:
    request = asyncio.create_task(node.membership.append_directory(user("ada"), story.revocation("eve")))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await node.membership.close()
    assert len((await node.written())[DIRECTORY]) == node.books.directory.head.sequence


async def test_refusals_are_audited_with_who_what_and_why(node: Node, story: Story) -> None:
    with pytest.raises(Forbidden):
        await node.membership.append_directory(user("bob"), story.admission("zoe", by="bob"))
    await node.audit.close()
    last = (await node.audit.read(0, 100))[-1]
    assert (last.outcome, last.action, last.actor) == ("refused", "user.admit", user("bob"))
    assert last.facts == {"code": "forbidden", "reason": "only an admin admits users", "log": DIRECTORY}
