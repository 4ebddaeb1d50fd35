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


# What could hide, reorder or break a line in a terminal or page: controls, soft hyphen, zero-width and bidirectional
# marks, line and paragraph separators, byte order mark, interlinear and tag characters, surrogates.
_UNSHOWABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U000e0000-\U000e0fff]"
)


def room_name_stands(text: str) -> bool:
    """Whether a room's log may hold this name.

    A fixed list of code points, so that every version and language decides alike for ever: what Unicode calls a
    character grows with every edition.
    """
    return 0 < len(text) <= MAX_ROOM_NAME and text == text.strip(" ") and not _UNSHOWABLE.search(text)


def check_room_name(text: str) -> str:
    """`text` if it is good to give a room as its name: 1 to 64 printable characters, NFC, no outer blanks.

    Stricter than `room_name_stands`, for where people enter names. What looks like a room's id is refused, because a
    room is named by either.

    Raises InvalidInput. Control, format (bidirectional overrides among them) and unassigned characters are refused.
    """
    bad = any(unicodedata.category(c)[0] in "CZ" and c != " " for c in text)
    if not room_name_stands(text) or bad or text != text.strip() or text != unicodedata.normalize("NFC", text):
        raise InvalidInput(f"a room's name is 1 to {MAX_ROOM_NAME} printable characters without outer blanks")
    if ROOM_ID.fullmatch(text):
        raise InvalidInput("a room's name is not of the form of a room's id, 26 characters of a-z and 2-7")
    return text
