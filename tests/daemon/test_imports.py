"""What is loaded only where it is needed stays out of a start: an idle node's memory, and the wait for `--help`."""

import subprocess
import sys

import pytest

# Loaded for TLS, for opening what is sealed, for terminals and for clusters.
NOT_IN_A_NODE_ALONE = {"cryptography", "rich", "unibus.store.kv", "unibus.store.blob_objects", "unibus.daemon.tls"}
NOT_FOR_HELP = {"asyncio", "aiohttp", "cryptography", "nats", "pydantic", "rich", "structlog"}


@pytest.mark.parametrize(
    ("module", "unwanted"), [("unibus.daemon.main", NOT_IN_A_NODE_ALONE), ("unibus.cli.main", NOT_FOR_HELP)]
)
def test_a_start_loads_no_more_than_it_needs(module: str, unwanted: set[str]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not loaded & unwanted


def test_rich_is_there_for_who_asks_for_it_after_the_daemon_was_loaded() -> None:
    program = "import unibus.daemon, rich; print(rich.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "rich\n"
