"""Permissions as a pure function: exactly a member's own subjects, and never a list that means everything."""

from hypothesis import given
from hypothesis import strategies as st

from tests.bus.stage import OTHER_ROOM, ROOM, Member
from unibus.bus.permissions import EVERYTHING, Permissions, permissions
from unibus.services.ports import Grants

USER = Member().user


def test_a_member_gets_its_own_subjects() -> None:
    granted = permissions(Grants(USER, (ROOM, OTHER_ROOM)))
    assert granted.publish == (
        f"room.{ROOM}.msg.{USER}",
        f"room.{OTHER_ROOM}.msg.{USER}",
        f"ctl.{USER}.deliver",
        "$JS.FC.ROOMS.*.*",
    )
    assert granted.subscribe == (f"_INBOX_{USER}.>", f"dlv.{USER}.*", f"ev.{USER}")


@given(st.lists(st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=26, max_size=26), max_size=20))
def test_every_subject_names_the_user_except_flow_control(rooms: list[str]) -> None:
    granted = permissions(Grants(USER, tuple(rooms)))
    named = {*granted.publish, *granted.subscribe} - {"$JS.FC.ROOMS.*.*"}
    assert len(named) == len(set(rooms)) + 4
    assert all(USER in subject for subject in named)


def test_nothing_allowed_is_written_as_everything_denied() -> None:
    assert Permissions((), ()).claims() == {"pub": {"deny": [">"]}, "sub": {"deny": [">"]}}
    assert EVERYTHING.claims() == {"pub": {"allow": [">"]}, "sub": {"allow": [">"]}}
