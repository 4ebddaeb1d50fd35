"""unibus: an end-to-end encrypted message bus, served from hosts that need not be trusted.

What people import is here: `connect`, `Identity` and the errors. Names are loaded on first use, so that
importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unibus.client.bus import Bus, connect
    from unibus.client.messages import Message
    from unibus.client.questions import Question
    from unibus.client.room import Room
    from unibus.client.signal_rules import Signal
    from unibus.crypto.identity import Identity
    from unibus.errors import UnibusError

__version__ = "0.1.0"
__all__ = ["Bus", "Identity", "Message", "Question", "Room", "Signal", "UnibusError", "__version__", "connect"]

_HOMES = {
    "Bus": "unibus.client.bus",
    "Identity": "unibus.crypto.identity",
    "Message": "unibus.client.messages",
    "Question": "unibus.client.questions",
    "Room": "unibus.client.room",
    "Signal": "unibus.client.signal_rules",
    "UnibusError": "unibus.errors",
    "connect": "unibus.client.bus",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'unibus' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
