"""unibus: an end-to-end encrypted message bus, served from hosts that need not be trusted.

What programs import is here, with all errors in `unibus.errors`; docs/library.md shows how it is used. Names are loaded
on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unibus import errors
    from unibus.client.blob_manifests import Blob
    from unibus.client.bus import Bus, connect
    from unibus.client.founding import found_bus
    from unibus.client.identity_file import load_identity, new_identity
    from unibus.client.joining import join_bus
    from unibus.client.messages import START, Message, Position, Refusal, parse_position
    from unibus.client.questions import Question
    from unibus.client.room import Room
    from unibus.client.signal_rules import Signal
    from unibus.crypto.identity import Identity
    from unibus.crypto.invites import InviteToken, read_token
    from unibus.errors import UnibusError

__version__ = "0.1.0"
__all__ = [
    "START",
    "Blob",
    "Bus",
    "Identity",
    "InviteToken",
    "Message",
    "Position",
    "Question",
    "Refusal",
    "Room",
    "Signal",
    "UnibusError",
    "__version__",
    "connect",
    "errors",
    "found_bus",
    "join_bus",
    "load_identity",
    "new_identity",
    "parse_position",
    "read_token",
]

_HOMES = {
    "START": "unibus.client.messages",
    "Blob": "unibus.client.blob_manifests",
    "Bus": "unibus.client.bus",
    "Identity": "unibus.crypto.identity",
    "InviteToken": "unibus.crypto.invites",
    "Message": "unibus.client.messages",
    "Position": "unibus.client.messages",
    "Question": "unibus.client.questions",
    "Refusal": "unibus.client.messages",
    "Room": "unibus.client.room",
    "Signal": "unibus.client.signal_rules",
    "UnibusError": "unibus.errors",
    "connect": "unibus.client.bus",
    "found_bus": "unibus.client.founding",
    "join_bus": "unibus.client.joining",
    "load_identity": "unibus.client.identity_file",
    "new_identity": "unibus.client.identity_file",
    "parse_position": "unibus.client.messages",
    "read_token": "unibus.crypto.invites",
}


def __getattr__(name: str) -> object:
    if name == "errors":
        return import_module("unibus.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'unibus' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
