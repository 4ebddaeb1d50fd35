"""`unibus user invite` and `unibus join`, and what becomes of users afterwards: withdrawn, renamed, made admins."""

from pathlib import Path

import pytest

from tests.cli.commands import Person, Town
from tests.cli.conftest import Newcomer

pytestmark = pytest.mark.slow


@pytest.fixture
def invited(town: Town, tmp_path: Path) -> Person:
    """Somebody with a token in hand and nothing else: not even where the daemon is."""
    assert town.url
    return Person(tmp_path / "invited")


def states(ada: Person) -> dict[str, str]:
    """What became of each invite, by its public key."""
    return {row["invite"]: row["state"] for row in ada.values("user", "invites")}


def test_an_invite_brings_a_newcomer_onto_the_bus_once(ada: Person, invited: Person, stranger: Person) -> None:
    command = ada.does("user", "invite", "--handle", "joan").strip()
    token = command.removeprefix("unibus join ")
    first, *rows = invited.does("join", token).splitlines()
    assert first.startswith("you are joan on bus ")
    assert rows[0] == f"  identity  {invited.identity}"
    assert invited.identity.stat().st_mode & 0o777 == 0o600
    listed = {user["handle"]: user["role"] for user in ada.values("user", "list")}
    assert listed["joan"] == "member"
    assert "used by joan" in states(ada).values()
    assert "used" in stranger.refused("join", token)


def test_a_token_can_come_on_standard_input(ada: Person, invited: Person) -> None:
    (made,) = ada.values("user", "invite", "--role", "admin", "--expires", "30m")
    assert (made["role"], made["seconds"]) == ("admin", 1800)
    (joined,) = invited.values("join", "-", "--handle", "jane", stdin=f"{made['token']}\n".encode())
    assert (joined["handle"], joined["user"]) == ("jane", invited.values("identity", "show")[0]["user"])
    assert {"handle": "jane", "role": "admin"}.items() <= ada.values("user", "show", "jane")[0].items()


def test_an_invite_as_a_qr_code_holds_in_a_terminal(ada: Person) -> None:
    first, *code = ada.does("user", "invite", "--qr").splitlines()
    assert first.startswith("unibus join ")
    assert len(code) > 15
    assert {character for line in code for character in line} <= set("█▀▄ \x1b[]0123456789;m")
    assert len({len(line) for line in code if line}) == 1


def test_a_withdrawn_invite_is_good_for_nothing(ada: Person, invited: Person) -> None:
    (made,) = ada.values("user", "invite")
    assert states(ada)[made["invite"]].startswith("until ")
    assert ada.does("user", "withdraw", made["invite"]) == "the invite is good for nothing now\n"
    assert states(ada)[made["invite"]] == "withdrawn"
    assert "withdrawn" in invited.refused("join", made["token"], "--handle", "nobody")
    assert ada.refused("user", "withdraw", made["invite"])


def test_what_is_no_token_or_duration_is_refused(ada: Person, invited: Person) -> None:
    assert invited.refused("join", "unibus:nonsense")
    assert not invited.identity.exists()
    assert ada.refused("user", "invite", "--expires", "soon").startswith("a duration is a number and m, h or d")
    for url in ("ftp://x", "", "nonsense"):
        assert ada.refused("user", "invite", "--at", url).startswith("the URL of a daemon looks like ")


def test_only_admins_invite(newcomer: Newcomer) -> None:
    assert "admin" in newcomer("plain-joe").refused("user", "invite")


def test_a_role_changes_what_a_user_may_do(ada: Person, newcomer: Newcomer) -> None:
    bea = newcomer("bea")
    assert bea.refused("audit") == "only an admin may do this"
    assert ada.does("user", "role", "bea", "admin") == "bea is now admin\n"
    assert bea.does("audit", "--since", "1")
    assert ada.values("user", "role", "bea", "member") == [{"handle": "bea", "role": "member"}]
    assert ada.refused("user", "role", "bea", "member") == "this user has the role member already"
    assert "admin" in bea.refused("user", "role", "bea", "admin")


def test_a_handle_changes_for_all(ada: Person, newcomer: Newcomer) -> None:
    cal = newcomer("cal")
    assert cal.does("user", "rename", "cal", "calvin") == "cal is now calvin\n"
    assert "calvin" in {user["handle"] for user in ada.values("user", "list")}
    assert "admin" in cal.refused("user", "rename", "ada", "eve")
    assert "no user 'cal'" in ada.refused("user", "show", "cal")
