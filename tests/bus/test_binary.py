"""Which nats-server is taken, and which is refused with the version that is needed."""

from pathlib import Path

import pytest

from unibus.bus import binary
from unibus.errors import StartRefused


def _program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


async def test_the_installed_server_is_found_and_new_enough() -> None:
    found = binary.find(None)
    assert found.name == "nats-server"
    assert tuple(map(int, (await binary.check(found)).split("."))) >= binary.MIN_VERSION


async def test_an_old_server_is_refused_with_both_versions(tmp_path: Path) -> None:
    old = _program(tmp_path / "old", "#!/bin/sh\necho nats-server: v2.11.9\n")
    with pytest.raises(StartRefused, match=r"is nats-server 2\.11\.9, but 2\.12\.0 or newer is needed"):
        await binary.check(old)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho hello\n", "is not a nats-server"),
        ("#!/bin/sh\nexit 3\n", "is not a nats-server"),
        ("#!/bin/sh\nyes\n", "is not a nats-server"),
        ("\x7fELF garbage", r"cannot be run \(exec format error\)"),
        ("#!/nowhere/sh\n", r"cannot be run \(no such file or directory\)"),
    ],
    ids=["another program", "one that fails", "one that floods", "garbage", "no interpreter"],
)
async def test_what_is_no_server_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(StartRefused, match=said):
        await binary.check(_program(tmp_path / "program", text))


def test_a_missing_or_unusable_file_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    for named in (tmp_path / "missing", plain, tmp_path):
        with pytest.raises(StartRefused, match="there is no nats-server to run"):
            binary.find(named)
