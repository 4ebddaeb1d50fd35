"""`unibus identity export|import|fingerprint`."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import UNIBUS, Person
from tests.cli.conftest import Newcomer
from unibus.crypto.fingerprint import fingerprint
from unibus.crypto.identity import Identity

PHRASE = "correct horse battery"


@pytest.fixture
def person(tmp_path: Path) -> Person:
    person = Person(tmp_path / "home")
    person.does("identity", "new")
    person.write("phrase", PHRASE + "\n")
    return person


def typed(person: Person, arguments: list[str], answers: list[str]) -> tuple[int, str]:
    """Run a command on a terminal of its own and type `answers`, one for each prompt; its status and all it showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(person.home)
        os.execve(UNIBUS, [str(UNIBUS), *arguments], person.environment)  # noqa: S606 - the command under test
    shown = b""
    waiting = list(answers)
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
            if waiting and shown.rstrip(b" ").endswith(b":"):
                os.write(terminal, waiting.pop(0).encode() + b"\n")
    except OSError:
        pass  # how a terminal says that its last program has ended
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_there_and_back(person: Person) -> None:
    user = person.values("identity", "show")[0]["user"]
    said = person.does("identity", "export", "me.pem", "--passphrase-file", "phrase").splitlines()
    assert said == [f"wrote {user}", "  to me.pem: whoever has it and the passphrase is you"]
    exported = person.home / "me.pem"
    assert exported.stat().st_mode & 0o777 == 0o600
    assert person.does("--identity", "second.nk", "identity", "import", "me.pem", "--passphrase-file", "phrase") == (
        f"you are {user}\n  in second.nk\n"
    )
    second = person.home / "second.nk"
    assert second.read_bytes() == person.identity.read_bytes()
    assert second.stat().st_mode & 0o777 == 0o600


def test_openssl_opens_an_export_and_makes_one(person: Person) -> None:
    person.does("identity", "export", "me.pem", "--passphrase-file", "phrase")
    clear = subprocess.run(
        ["openssl", "pkey", "-in", "me.pem", "-passin", "file:phrase", "-outform", "DER"],  # noqa: S607 - any openssl
        cwd=person.home,
        capture_output=True,
        check=True,
    ).stdout
    seed = Identity.from_seed(person.identity.read_text().strip()).signing.seed
    assert clear.endswith(seed)
    person.write("clear.der", clear)
    subprocess.run(
        [  # noqa: S607 - any openssl
            "openssl",
            "pkcs8",
            "-topk8",
            "-inform",
            "DER",
            "-in",
            "clear.der",
            "-out",
            "other.pem",
            "-passout",
            "file:phrase",
        ],
        cwd=person.home,
        capture_output=True,
        check=True,
    )
    person.does("--identity", "second.nk", "identity", "import", "other.pem", "--passphrase-file", "phrase")
    assert (person.home / "second.nk").read_bytes() == person.identity.read_bytes()


def test_the_passphrase_is_asked_for_twice_and_never_shown(person: Person) -> None:
    status, shown = typed(person, ["identity", "export", "me.pem"], [PHRASE, PHRASE])
    assert status == 0, shown
    assert PHRASE not in shown
    status, shown = typed(person, ["--identity", "second.nk", "identity", "import", "me.pem"], [PHRASE])
    assert status == 0, shown
    assert PHRASE not in shown
    assert (person.home / "second.nk").read_bytes() == person.identity.read_bytes()


def test_two_different_passphrases_are_asked_for_again(person: Person) -> None:
    status, shown = typed(person, ["identity", "export", "me.pem"], [PHRASE, "another horse", PHRASE, PHRASE])
    assert status == 0, shown
    assert "the two entered values do not match" in shown.lower()


def test_without_a_terminal_there_is_no_prompt(person: Person) -> None:
    said = person.refused("identity", "export", "me.pem")
    assert said == "there is no terminal to ask for the passphrase on: give it with --passphrase-file"
    assert not (person.home / "me.pem").exists()


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        (b"short\n", "a passphrase has 8 to 1024 bytes: a few random words make a good one"),
        (b"\n", "a passphrase has 8 to 1024 bytes: a few random words make a good one"),
        (b"x" * 2000, "a passphrase has 8 to 1024 bytes: a few random words make a good one"),
        (b"\xff" * 20, "a passphrase is text in UTF-8"),
    ],
)
def test_a_passphrase_that_is_none_is_refused(person: Person, phrase: bytes, said: str) -> None:
    person.write("phrase", phrase)
    assert person.refused("identity", "export", "me.pem", "--passphrase-file", "phrase") == said
    assert not (person.home / "me.pem").exists()


def test_a_passphrase_that_others_can_read_is_refused(person: Person) -> None:
    (person.home / "phrase").chmod(0o644)
    said = person.refused("identity", "export", "me.pem", "--passphrase-file", "phrase")
    assert said == "others can read the passphrase in phrase: close it with chmod 600 phrase"


def test_an_export_never_overwrites(person: Person) -> None:
    path = person.write("me.pem", "what was there")
    said = person.refused("identity", "export", "me.pem", "--passphrase-file", "phrase")
    assert said == "there is a file me.pem already: it is kept; name another"
    assert path.read_text() == "what was there"


def test_an_import_never_overwrites(person: Person) -> None:
    person.does("identity", "export", "me.pem", "--passphrase-file", "phrase")
    before = person.identity.read_bytes()
    said = person.refused("identity", "import", "me.pem", "--passphrase-file", "phrase")
    assert said == (
        f"there is an identity at {person.identity} already: it is kept; name another place with --identity"
    )
    assert person.identity.read_bytes() == before


def test_a_wrong_passphrase_leaves_nothing(person: Person) -> None:
    person.does("identity", "export", "me.pem", "--passphrase-file", "phrase")
    person.write("phrase", "correct horse batterx\n")
    said = person.refused("--identity", "second.nk", "identity", "import", "me.pem", "--passphrase-file", "phrase")
    assert said == "the passphrase is wrong, or the file is damaged"
    assert not (person.home / "second.nk").exists()


def test_an_import_of_nothing_is_refused(person: Person) -> None:
    said = person.refused("--identity", "second.nk", "identity", "import", "none.pem", "--passphrase-file", "phrase")
    assert said == "cannot read none.pem: no such file or directory"


def test_two_people_see_the_same_digits(ada: Person, newcomer: Newcomer) -> None:
    grace = newcomer("grace-f")
    shown = grace.does("identity", "fingerprint")
    assert ada.does("identity", "fingerprint", "grace-f") == shown
    assert ada.does("identity", "fingerprint") != shown
    identity = Identity.from_seed(grace.identity.read_text().strip())
    groups = fingerprint(identity.user, identity.sealing.public)
    assert shown.splitlines() == [" ".join(groups[at : at + 4]) for at in (0, 4, 8)]
    assert grace.values("identity", "fingerprint") == [{"user": identity.user, "fingerprint": " ".join(groups)}]


def test_a_fingerprint_of_nobody_is_refused(ada: Person) -> None:
    assert ada.refused("identity", "fingerprint", "nobody") == "there is no user 'nobody': see unibus user list"
