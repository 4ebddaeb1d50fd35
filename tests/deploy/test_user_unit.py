"""The unit and its installer, as far as that needs no systemd that runs: they are sound, tight, and refuse by name."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = "unibus-membershipd.service"
EXPOSURE_EVERYWHERE, EXPOSURE_IN_SANDBOX = 64, 18
"""What `systemd-analyze security` may give at most, in tenths: 0 is closed, 100 is open."""


@pytest.fixture
def analyze(tmp_path: Path) -> list[str]:
    """`systemd-analyze` for units of users; without a session it wants a place for one."""
    return ["env", f"XDG_RUNTIME_DIR={tmp_path}", "systemd-analyze", "--user", "--no-pager"]


def outcome(*command: str | Path, **variables: str) -> tuple[int, str]:
    """The exit status of a command and all that it said."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=os.environ | variables
    )
    return done.returncode, done.stdout


def test_the_scripts_are_sound() -> None:
    assert outcome("shellcheck", DEPLOY / "install.sh") == (0, "")
    assert outcome("shellcheck", Path(__file__).parents[1] / "support" / "user-manager.sh") == (0, "")


def test_the_unit_is_one(analyze: list[str], tmp_path: Path) -> None:
    status, said = outcome(*analyze, "verify", shutil.copy(DEPLOY / UNIT, tmp_path))
    assert status == 0, said
    new_since_254 = re.compile(r"Unknown key (name )?'(RestartSteps|RestartMaxDelaySec)' in section")
    assert [line for line in said.splitlines() if not new_since_254.search(line)] == []


@pytest.mark.parametrize("sandboxed", [False, True])
def test_the_unit_exposes_no_more_than_agreed(analyze: list[str], tmp_path: Path, sandboxed: bool) -> None:
    unit = shutil.copy(DEPLOY / UNIT, tmp_path)
    worst = EXPOSURE_EVERYWHERE
    if sandboxed:
        worst = EXPOSURE_IN_SANDBOX
        (tmp_path / f"{UNIT}.d").mkdir()
        shutil.copy(DEPLOY / "sandbox.conf", tmp_path / f"{UNIT}.d")
    status, said = outcome(*analyze, "security", "--offline=true", f"--threshold={worst}", unit)
    assert status == 0, said
    assert "Overall exposure level" in said


def test_what_the_service_is_cannot_be_had_weaker_by_a_variable() -> None:
    settings = [line for line in (DEPLOY / UNIT).read_text().splitlines() if "=" in line and not line.startswith("#")]
    [command] = [line for line in settings if line.startswith("ExecStart=")]
    for flag in (
        "--bus-auth enforce",
        "--http-bind 0.0.0.0:8470",
        "--nats-bind 0.0.0.0:4250",
        "--data-dir local_files",
    ):
        assert f" {flag} " in command
    for wanted in ("Type=notify", "WatchdogSec=30", "Restart=always", "StartLimitIntervalSec=0", "LimitCORE=0"):
        assert wanted in settings


INSTALL = str(DEPLOY / "install.sh")
AS_ROOT = ("unshare", "--user", "--map-root-user", "--mount")
AS_SOMEBODY = ("unshare", "--user", "--map-user=4250", "--map-group=4250")
BOOTED = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec "


def with_tools(tmp_path: Path, **scripts: str) -> str:
    """A path with the few tools that the installer begins with, and `scripts` in place of what a machine has."""
    for tool in ("bash", "env", "dirname", "id", "sed", "getent"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    return str(tmp_path)


def test_root_is_sent_away() -> None:
    status, said = outcome(*AS_ROOT, INSTALL)
    assert (status, said.count("\n")) == (1, 1)
    assert "install.sh: this is root" in said


def test_where_there_is_no_systemd_it_says_so(tmp_path: Path) -> None:
    path = with_tools(tmp_path)
    unshare = shutil.which("unshare") or "unshare"
    status, said = outcome(unshare, *AS_SOMEBODY[1:], INSTALL, PATH=path)
    assert (status, said.count("\n")) == (1, 1)
    assert "there is no systemd on this machine" in said


def test_where_systemd_does_not_run_it_says_so() -> None:
    not_booted = "mount -t tmpfs tmpfs /run && exec "
    status, said = outcome(*AS_ROOT, "sh", "-c", f'{not_booted} {" ".join(AS_SOMEBODY)} "$0"', INSTALL)
    assert (status, said.count("\n")) == (1, 1)
    assert "systemd is installed but does not run this machine" in said


def test_where_systemd_is_too_old_it_says_so(tmp_path: Path) -> None:
    path = with_tools(tmp_path, systemctl="echo 'systemd 249 (249.11-0ubuntu3)'") + ":" + os.environ["PATH"]
    status, said = outcome(*AS_ROOT, "sh", "-c", f'{BOOTED} {" ".join(AS_SOMEBODY)} env PATH="$1" "$0"', INSTALL, path)
    assert (status, said.count("\n")) == (1, 1)
    assert "this is systemd 249: 251 or newer is needed" in said


def test_where_the_user_has_no_session_it_says_how_to_get_one() -> None:
    status, said = outcome(*AS_ROOT, "sh", "-c", f'{BOOTED} {" ".join(AS_SOMEBODY)} "$0"', INSTALL)
    assert status == 1
    assert "systemd has no session of" in said
    assert "loginctl enable-linger" in said


@pytest.mark.parametrize("words", [["--force"], ["--uninstall", "now"], ["install"]])
def test_words_that_are_not_known_are_refused(words: list[str]) -> None:
    status, said = outcome(INSTALL, *words)
    assert status == 2
    assert said.startswith("usage: deploy/install.sh")
