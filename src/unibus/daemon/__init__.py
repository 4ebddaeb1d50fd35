"""The process: options, wiring, life and death of `unibus-membershipd`.

Where rich is installed, structlog takes it along to show people tracebacks in colours. Here it may not: that is five
megabytes, and a hundred modules to load at each start, of a process whose log is mostly for programs.
"""

import sys

if "structlog" not in sys.modules:
    _rich = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment]  # what an import takes for "is not installed"
    import structlog  # noqa: F401 - for its own sake, before others do

    if _rich is None:
        del sys.modules["rich"]
    else:
        sys.modules["rich"] = _rich
