"""Permissions as a pure function: exactly a member's own subjects, and never a list that means everything."""

from hypothesis import given
from hypothesis import strategies as st

from tests.bus.stage import OTHER_ROOM, ROOM, Member
from unibus.bus.permissions import EVERYTHING, Permissions, permissions
from unibus.services.ports import Grants

USER = Member().user


def test_a_member_gets_its_own_subjects() -> None:
    granted = permissions(Grants(USER, write=(ROOM,), read=(ROOM, OTHER_ROOM)))
    assert granted.publish == (
        f"room.{ROOM}.msg.{USER}",
        f"room.{ROOM}.sig.{USER}.*",
        f"ctl.{USER}.deliver",
        "$JS.FC.ROOMS.*.*",
    )
    assert granted.subscribe == (
        f"_INBOX_{USER}.>",
        f"dlv.{USER}.*",
        f"ev.{USER}",
        f"room.{ROOM}.sig.*.all",
        f"room.{OTHER_ROOM}.sig.*.all",
        f"room.{ROOM}.sig.*.{USER}",
    )


@given(st.lists(st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=26, max_size=26), max_size=20))
def test_every_subject_names_the_user_except_flow_control_and_what_a_room_signals_to_all(rooms: list[str]) -> None:
    granted = permissions(Grants(USER, tuple(rooms), tuple(rooms)))
    to_all = {f"room.{room}.sig.*.all" for room in rooms}
    assert to_all.isdisjoint(granted.publish)
    named = {*granted.publish, *granted.subscribe} - {"$JS.FC.ROOMS.*.*"} - to_all
    assert len(named) == 3 * len(set(rooms)) + 4
    assert all(USER in subject for subject in named)


def test_nothing_allowed_is_written_as_everything_denied() -> None:
    assert Permissions((), ()).claims() == {"pub": {"deny": [">"]}, "sub": {"deny": [">"]}}
    assert EVERYTHING.claims() == {"pub": {"allow": [">"]}, "sub": {"allow": [">"]}}
