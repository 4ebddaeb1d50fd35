"""`unibus identity new|show`: made once, kept private, never overwritten, never read when others can."""

import os
from pathlib import Path

import pytest

from tests.cli.commands import Person
from unibus.crypto.identity import Identity, read_card


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path / "home")


def test_new_makes_a_private_file_and_says_where(person: Person) -> None:
    said = person.does("identity", "new").splitlines()
    user = Identity.from_seed(person.identity.read_text().strip()).user
    assert said == [f"made {user}", f"  in {person.identity}, which is all there is of it: keep a copy in a safe place"]
    assert person.identity.stat().st_mode & 0o777 == 0o600
    assert person.identity.parent.stat().st_mode & 0o777 == 0o700


def test_show_in_all_its_forms(person: Person) -> None:
    person.does("identity", "new")
    seed = person.identity.read_text().strip()
    user = Identity.from_seed(seed).user
    assert person.does("identity", "show").splitlines() == [
        f"user  {user}",
        f"file  {person.identity}",
        "bus   none yet",
    ]
    assert person.values("identity", "show") == [{"user": user, "path": str(person.identity), "bus": None}]
    card = person.does("identity", "show", "--card").strip()
    assert read_card(card).user == user
    assert seed not in card
    assert person.does("identity", "show", "--seed") == f"{seed}\n"


def test_an_identity_is_never_overwritten(person: Person) -> None:
    person.does("identity", "new")
    before = person.identity.read_bytes()
    said = person.refused("identity", "new")
    assert said == f"there is an identity at {person.identity} already: it is kept; name another place for a second"
    assert person.identity.read_bytes() == before


def test_without_an_identity_the_next_step_is_named(person: Person) -> None:
    said = person.refused("identity", "show")
    assert said == f"there is no identity at {person.identity}: make one with unibus identity new"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_an_identity_that_others_can_read_is_refused(person: Person, mode: int) -> None:
    person.does("identity", "new")
    person.identity.chmod(mode)
    said = person.refused("identity", "show", "--seed")
    assert said == f"others can read the identity {person.identity}: close it with chmod 600 {person.identity}"


@pytest.mark.parametrize(
    "content", [b"", b"SUAB", b"\xff\xfe\x00", b"UCRR3ACKGKFJWYAIF4SXT3YKVP4EVU6AJUO22EPVWF4QNDXSFTBD4AOQ", b"A" * 9999]
)
def test_a_file_that_holds_no_seed_is_refused_and_not_repeated(person: Person, content: bytes) -> None:
    path = person.write("wrong.nk", content)
    said = person.refused("--identity", "wrong.nk", "identity", "show")
    assert said.startswith("wrong.nk does not hold a NATS user seed (SU…): ")
    assert not content or content.decode(errors="replace") not in said
    assert path.read_bytes() == content


def test_a_pipe_in_the_identitys_place_is_refused_at_once(person: Person) -> None:
    os.mkfifo(person.home / "pipe.nk", 0o600)
    assert person.refused("--identity", "pipe.nk", "identity", "show") == "pipe.nk is not a file"


def test_a_place_that_cannot_be_written_is_named(person: Person) -> None:
    person.write("file", "")
    said = person.refused("--identity", "file/identity.nk", "identity", "new")
    assert said == "cannot write an identity to file/identity.nk: not a directory"
