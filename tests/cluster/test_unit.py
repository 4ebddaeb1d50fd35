"""The unit and the scripts, judged by systemd-analyze and shellcheck."""

import subprocess
from pathlib import Path

import pytest

from tests.cluster.example import ROOT
from unibus.cluster.layout import UNIT

CLUSTER = ROOT / "deploy" / "cluster"
EXPOSURE = 15
"""Tenths; what systemd calls "OK" ends at 40 (systemd-analyze(1), security)."""


def test_the_service_is_as_closed_as_it_was() -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", f"{ROOT}/deploy/{UNIT}"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / UNIT).read_text()
    # On this host nothing is installed in /opt/unibus.
    unit = tmp_path / "membershipd-cluster.service"
    unit.write_text(text.replace("/opt/unibus/current/venv/bin/unibus-membershipd", "/bin/true"))
    outcome = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)  # noqa: S607 - as Debian installs it
    assert [line for line in outcome.stderr.splitlines() if str(unit) in line or unit.name in line] == []


@pytest.mark.parametrize("flag", ["--bus-auth enforce", "--store kv", "--cluster-pass-file /opt/unibus/cluster.pass"])
def test_what_keeps_a_node_closed_is_not_left_to_a_file(flag: str) -> None:
    assert flag in (ROOT / "deploy" / UNIT).read_text()


@pytest.mark.parametrize("name", ["deploy-cluster", "generate-cluster-certs", "generate-cluster-env", "install-node"])
def test_scripts_are_sound_and_can_be_run(name: str) -> None:
    outcome = subprocess.run(["shellcheck", CLUSTER / name], capture_output=True, text=True, check=False)  # noqa: S607 - as Debian installs it
    assert outcome.returncode == 0, outcome.stdout
    assert (CLUSTER / name).stat().st_mode & 0o111


def test_what_runs_on_hosts_is_sound() -> None:
    from unibus.cluster.hosts import FACTS

    command = ["shellcheck", "--shell=sh", "-"]
    outcome = subprocess.run(command, input=FACTS, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout
