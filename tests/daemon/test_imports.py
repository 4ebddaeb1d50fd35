"""What is loaded only where it is needed stays out of a start: an idle node's memory, and the wait for `--help`."""

import subprocess
import sys

import pytest

# Loaded for TLS, for opening what is sealed, for terminals and for clusters.
NOT_IN_A_NODE_ALONE = {
    *("cryptography", "ctypes", "frozenlist._frozenlist", "prometheus_client", "rich", "statistics", "tarfile"),
    *("unibus.bus.external", "unibus.daemon.tls", "unibus.store.blob_objects", "unibus.store.kv"),
}
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


def test_the_daemon_loads_no_authorities_and_has_tls_all_the_same() -> None:
    program = "import unibus.daemon.main, aiohttp.connector, ssl, sys; assert aiohttp.connector.ssl is None; "
    program += "assert sys.modules['ssl'] is ssl; from urllib.request import HTTPSHandler; print(ssl.OPENSSL_VERSION)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "OpenSSL" in done.stdout


def test_a_client_that_was_loaded_before_the_daemon_keeps_its_tls() -> None:
    program = "import aiohttp.connector, unibus.daemon.main; print(aiohttp.connector._SSL_CONTEXT_VERIFIED.verify_mode)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"
