"""What `/healthz` says of who may connect is read back: a server that took in another configuration is told apart."""

import json
import os
import signal
from pathlib import Path

from tests.bus.cluster_stage import until
from tests.bus.stage import Member, Stage
from tests.support.processes import nats_servers
from unibus.bus.config import MEMBERS
from unibus.bus.plane import OTHER_CONFIGURATION


async def test_a_configuration_that_was_changed_behind_the_daemon_shows(stage: Stage, tmp_path: Path) -> None:
    assert (stage.plane.status()["auth"], stage.plane.status()["reasons"]) == ("enforce", [])
    path = tmp_path / "run" / "nats-server.conf"
    changed = json.loads(path.read_bytes())
    changed["accounts"][MEMBERS]["users"].append({"nkey": Member().user})
    path.write_text(json.dumps(changed))
    (pid,) = nats_servers(tmp_path)
    os.kill(pid, signal.SIGHUP)
    await until(lambda: stage.plane.status()["auth"] == "unknown")
    assert stage.plane.status()["reasons"] == [OTHER_CONFIGURATION]
