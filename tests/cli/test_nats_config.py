"""`unibus nats-config`: what is printed is taken by a real nats-server, and holds no secret."""

import json
import subprocess
from pathlib import Path

from tests.cli.commands import Person
from unibus.bus import binary


def test_it_prints_what_a_server_takes_and_keeps_the_secrets(tmp_path: Path) -> None:
    person = Person(tmp_path / "home")
    data_dir = tmp_path / "data"
    printed = person.does("nats-config", "--data-dir", str(data_dir))
    assert person.does("nats-config", "--data-dir", str(data_dir)) == printed
    assert person.values("nats-config", "--data-dir", str(data_dir)) == [{"config": printed}]
    kept = json.loads((data_dir / "bus-keys").read_text())
    assert data_dir.stat().st_mode & 0o777 == 0o700
    assert all(secret not in printed for secret in kept.values())
    block, server = person.write("unibus.conf", printed), person.write("server.conf", 'include "unibus.conf"\n')
    tried = subprocess.run([binary.find(None), "-t", "-c", server], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr
    assert "sync_interval: always" in block.read_text()


def test_keys_that_others_can_read_and_directories_that_others_write_are_refused(tmp_path: Path) -> None:
    person = Person(tmp_path / "home")
    data_dir = tmp_path / "data"
    person.does("nats-config", "--data-dir", str(data_dir))
    (data_dir / "bus-keys").chmod(0o644)
    assert "can be read by others: chmod 600" in person.refused("nats-config", "--data-dir", str(data_dir))
    data_dir.chmod(0o777)
    assert "others may write in" in person.refused("nats-config", "--data-dir", str(data_dir))
