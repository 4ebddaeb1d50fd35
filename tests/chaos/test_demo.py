"""The story that `unibus cluster demo` tells holds, in the time it promises, and leaves nothing."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.chaos.network import Network
from tests.cli.commands import UNIBUS
from tests.cluster_e2e.test_local import gone

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(90)]


def test_the_demo_holds(network: Network, tmp_path: Path) -> None:
    """The network is asked for because it brings up loopback."""
    assert network.names
    began = time.monotonic()
    told = subprocess.run(
        [UNIBUS, "cluster", "demo"], env={"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert time.monotonic() - began < 60
    assert "FAIL" not in told.stdout
    assert gone(tmp_path)
    assert list(tmp_path.iterdir()) == []
