"""The daemon's log on a terminal: strangers choose words in it, and must not control it."""

import os
import subprocess
import sys

_SAYS = """
import structlog
from unibus.daemon.logs import configure
configure()
structlog.stdlib.get_logger("unibus.bus").warning("heard", line="a\x1b[2J\x9b31m\u202eb", path="/\x1b]0;mine\x07 x")
"""


def test_what_a_stranger_chose_does_not_reach_the_terminal_as_it_is() -> None:
    ours, theirs = os.openpty()
    try:
        subprocess.run([sys.executable, "-c", _SAYS], stderr=theirs, check=True, timeout=30)
        shown = os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert r"a\x1b[2J\x9b31m\u202eb" in shown
    assert "\x1b[2J" not in shown
    assert not {"\x9b", "\x07", "\u202e"} & set(shown)
