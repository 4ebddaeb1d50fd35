"""The directory's rules, each with whoever would like to break it."""

from collections.abc import Callable

import pytest

from tests.builders import ANY_DIGEST, AT, RoomStory, Story, identity, salt, user
from unibus.crypto.encoding import b64u
from unibus.crypto.heads import EMPTY, Head
from unibus.errors import Forbidden, HeadConflict, MalformedRecord, NotAUser, RuleBroken, UnibusError, WrongBus
from unibus.model.bodies import BusCreate, UserAdmit, UserRevoke
from unibus.model.directory import Directory, reduce_directory
from unibus.model.records import DIRECTORY, read_record, write_record


def genesis(by: str, card_of: str) -> bytes:
    body = BusCreate(handle="ada", card=identity(card_of).card(), salt=salt("x"))
    return write_record(identity(by).signing, None, DIRECTORY, EMPTY, body, at=AT)


@pytest.fixture
def story() -> Story:
    """A bus of Ada (admin), Bob and Cyd, from which Dan was revoked by record 5."""
    story = Story()
    story.admit("bob", "cyd", "dan")
    story.revoke("dan")
    return story


def test_the_first_record_makes_the_bus_and_its_admin() -> None:
    story = Story()
    assert story.bus == story.directory.head.hash
    assert story.directory.is_admin(user("ada"))
    assert story.directory.by_handle("ada") == story.directory.users[user("ada")]
    assert story.directory.users[user("ada")].sealing == identity("ada").sealing.public


def test_nobody_can_found_a_bus_in_somebody_elses_name() -> None:
    with pytest.raises(Forbidden, match="own card"):
        Directory().check(read_record(genesis("eve", "ada")))


def test_who_is_on_the_bus_and_when(story: Story) -> None:
    directory = story.directory
    assert [directory.handle_of(name) for name in directory.users if directory.active(name)] == ["ada", "bob", "cyd"]
    assert directory.last_revocation == 5
    assert [directory.active_at(user("dan"), sequence) for sequence in range(7)] == [False] * 4 + [True] + [False] * 2
    assert [directory.revoked_at(user("dan"), sequence) for sequence in range(7)] == [False] * 5 + [True] * 2
    assert not directory.active_at(user("eve"), 5)
    assert not directory.revoked_at(user("eve"), 5)
    assert directory.handle_of(user("eve")) == user("eve")[:12] + "…"
    assert directory.by_handle("dan") is None


def test_heads_are_known_from_the_first_record_to_the_last(story: Story) -> None:
    assert [story.directory.head_at(n) is None for n in (-1, 0, 1, 5, 6)] == [True, True, False, False, True]
    assert story.directory.head_at(5) == story.directory.head


REFUSED: list[tuple[str, Callable[[Story], bytes], type[UnibusError]]] = [
    ("a member admits", lambda s: s.admission("eve", by="bob"), Forbidden),
    ("a stranger admits themselves", lambda s: s.admission("eve", by="eve"), NotAUser),
    ("a revoked user admits", lambda s: s.admission("eve", by="dan"), NotAUser),
    ("a revoked identity comes back", lambda s: s.admission("dan"), RuleBroken),
    ("a revoked identity comes back under another name", lambda s: s.admission("dan", handle="new"), RuleBroken),
    ("an identity under two handles", lambda s: s.admission("bob", handle="bobby"), RuleBroken),
    ("a member promotes themselves", lambda s: s.admission("bob", by="bob", role="admin"), Forbidden),
    ("a handle that is taken", lambda s: s.admission("eve", handle="bob"), RuleBroken),
    ("a member revokes another", lambda s: s.revocation("cyd", by="bob"), Forbidden),
    ("a member revokes the admin", lambda s: s.revocation("ada", by="bob"), Forbidden),
    ("a stranger revokes", lambda s: s.revocation("bob", by="eve"), NotAUser),
    ("a revoked user takes revenge", lambda s: s.revocation("ada", by="dan"), NotAUser),
    ("who is not on the bus is revoked", lambda s: s.revocation("eve"), RuleBroken),
    ("who was revoked is revoked again", lambda s: s.revocation("dan"), RuleBroken),
    ("the last admin leaves", lambda s: s.revocation("ada"), RuleBroken),
    (
        "a second founding",
        lambda s: s.sign("ada", BusCreate(handle="x", card=identity("ada").card(), salt=salt("x"))),
        RuleBroken,
    ),
    ("the founding again", lambda s: s.records[0], WrongBus),
    ("the last record again", lambda s: s.records[-1], HeadConflict),
    ("a record of another bus", lambda _: Story("eve").admission("bob", by="eve"), WrongBus),
    (
        "another bus's admin with this bus's id",
        lambda s: write_record(
            identity("eve").signing, s.bus, DIRECTORY, s.directory.head, UserRevoke(user=user("ada")), at=AT
        ),
        NotAUser,
    ),
    (
        "a directory record that names a directory head",
        lambda s: write_record(
            identity("ada").signing,
            s.bus,
            DIRECTORY,
            s.directory.head,
            UserRevoke(user=user("bob")),
            at=AT,
            directory=s.directory.head,
        ),
        MalformedRecord,
    ),
    (
        "a card of nobody",
        lambda s: s.sign("ada", UserAdmit(handle="eve", role="member", card="a.b.c")),
        MalformedRecord,
    ),
    (
        "a card with a changed key",
        lambda s: s.sign("ada", UserAdmit(handle="eve", role="member", card=identity("eve").card()[:-3] + "AAA")),
        MalformedRecord,
    ),
    ("a room's record", lambda s: RoomStory(s).records[0], MalformedRecord),
    (
        "a gap",
        lambda s: write_record(
            identity("ada").signing, s.bus, DIRECTORY, Head(6, bytes(32)), UserRevoke(user=user("bob")), at=AT
        ),
        HeadConflict,
    ),
]


@pytest.mark.parametrize(("forge", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_and_nothing_changed(story: Story, forge: Callable[[Story], bytes], error: type[UnibusError]) -> None:
    raw = forge(story)
    before = vars(reduce_directory(map(read_record, story.records)))
    with pytest.raises(UnibusError) as caught:
        story.directory.check(read_record(raw))
    assert type(caught.value) is error
    assert vars(story.directory) == before


def test_a_member_may_leave_and_their_handle_goes_to_somebody_else(story: Story) -> None:
    story.take(story.revocation("bob", by="bob"))
    story.take(story.admission("eve", handle="bob"))
    found = story.directory.by_handle("bob")
    assert found is not None
    assert found.user == user("eve")


def test_an_admin_may_go_once_there_is_another(story: Story) -> None:
    story.admit("eve", role="admin")
    story.take(story.revocation("ada", by="ada"))
    story.take(story.revocation("bob", by="eve"))
    with pytest.raises(RuleBroken, match="last admin"):
        story.directory.check(read_record(story.revocation("eve", by="eve")))


def test_two_branches_cannot_both_be_taken(story: Story) -> None:
    one, other = story.admission("eve"), story.admission("fay")
    story.take(one)
    with pytest.raises(HeadConflict) as caught:
        story.directory.check(read_record(other))
    assert caught.value.extra == {"sequence": 6, "hash": story.directory.head.hash}


@pytest.mark.parametrize("lost", range(5))
def test_a_log_with_a_record_left_out_does_not_reduce(story: Story, lost: int) -> None:
    kept = [raw for place, raw in enumerate(story.records) if place != lost]
    if lost == 4:  # the tail cut off is a shorter log that holds: only a remembered head notices
        assert reduce_directory(map(read_record, kept)).head.sequence == 4
        return
    with pytest.raises((HeadConflict, WrongBus)):
        reduce_directory(map(read_record, kept))


def test_another_genesis_is_another_bus() -> None:
    assert Story("ada").bus != Story("eve").bus
    assert b64u(Story("ada").directory.head.digest) == Story("ada").bus != ANY_DIGEST
