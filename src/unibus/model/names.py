"""The grammar of every name: handles, room ids, room names, delivery tokens.

Everything that may become part of a subject, a file name or a URL is checked here, and only ASCII that cannot be
mistaken for something else gets through. Never normalizes: a name is right as it stands, or refused.
"""

import re
import unicodedata

from unibus.errors import InvalidInput

HANDLE = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
ROOM_ID = re.compile(r"[a-z2-7]{26}")
TOKEN = re.compile(r"[A-Za-z0-9_-]{22,43}")
MAX_ROOM_NAME = 64


def check_handle(text: str) -> str:
    """`text` if it is a handle. Raises InvalidInput."""
    if not HANDLE.fullmatch(text):
        raise InvalidInput("a handle is 1 to 32 of a-z 0-9 . _ - and starts with a letter or a digit")
    return text


def check_room_id(text: str) -> str:
    """`text` if it is a room id: 26 characters of base32 in lower case. Raises InvalidInput."""
    if not ROOM_ID.fullmatch(text):
        raise InvalidInput("a room id is 26 characters of a-z and 2-7")
    return text


def check_token(text: str) -> str:
    """`text` if it is a delivery token: at least 128 random bits in base64url. Raises InvalidInput."""
    if not TOKEN.fullmatch(text):
        raise InvalidInput("a token is 22 to 43 characters of base64url")
    return text


def check_room_name(text: str) -> str:
    """`text` if it can be shown as a room's name: 1 to 64 printable characters, NFC, no outer blanks.

    Raises InvalidInput. Control, format (bidirectional overrides among them) and unassigned characters are refused.
    """
    bad = any(unicodedata.category(c)[0] in "CZ" and c != " " for c in text)
    if not 0 < len(text) <= MAX_ROOM_NAME or bad or text != text.strip() or text != unicodedata.normalize("NFC", text):
        raise InvalidInput(f"a room's name is 1 to {MAX_ROOM_NAME} printable characters without outer blanks")
    return text
