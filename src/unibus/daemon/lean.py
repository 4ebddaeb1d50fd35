"""What the program leaves out of what it loads: imported first of all, by the program alone.

aiohttp's server brings its client along, which reads all authorities that the machine trusts as soon as it is loaded:
two megabytes, and nobody here uses it. So it finds no `ssl`, without which it can make no connection over TLS at all.
One megabyte more is C++'s library, for a list that each request goes through once; there is one in Python.

Must never be imported where aiohttp's client is used.
"""

import ssl
import sys
import urllib.request  # noqa: F401 - loaded by aiohttp, and by others that miss what it has only beside `ssl`

_UNUSED = ("ssl", "frozenlist._frozenlist")

if "aiohttp" not in sys.modules:
    sys.modules.update(dict.fromkeys(_UNUSED))  # type: ignore[arg-type]  # what an import takes for "is not installed"
    import aiohttp  # noqa: F401 - for its own sake, before others do

    for _name in _UNUSED:
        del sys.modules[_name]
    sys.modules["ssl"] = ssl
