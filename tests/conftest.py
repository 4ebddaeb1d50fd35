"""What a run of the tests says at its end beside its results: which tests this machine could not even begin.

It stands here because only this file is read by the process that writes the summary when others run the tests.
"""

import aiohttp  # noqa: F401 - before a test loads the daemon's program, which leaves aiohttp's client without TLS
import pytest

from tests.interop.machine import NEEDED, node_is_here


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out."""
    if not node_is_here():
        wanted = ".".join(map(str, NEEDED))
        terminalreporter.section("not run")
        terminalreporter.line(f"tests/interop/test_javascript.py: needs npm and Node.js {wanted} or newer on the path")
