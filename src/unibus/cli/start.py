"""The two programs, `unibus` and `unibus-membershipd`: loaded, then run. A ctrl-c while they load ends them in silence.

Must never import at the top what takes time: until `_run` is reached, an interrupt is a traceback.
"""

import signal
from importlib import import_module


def command() -> None:
    """The console script `unibus`."""
    _run("unibus.cli.main")


def daemon() -> None:
    """The console script `unibus-membershipd`."""
    _run("unibus.daemon.main")


def _run(module: str) -> None:
    meant = signal.getsignal(signal.SIGINT)
    if meant is signal.default_int_handler:  # and not ignored, as in the background of a shell without jobs
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    loaded = import_module(module)
    signal.signal(signal.SIGINT, meant)
    loaded.main()
