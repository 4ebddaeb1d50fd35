"""What is said of a blob: its id, its name, and the manifest that members alone can read. Pure forms.

A manifest is sealed like a frame of the room, with a purpose of its own that binds the blob's id. A name comes from
another member and may end up as a file's name: what could lead anywhere else is not a name.
"""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

from unibus.crypto.frames import Purpose
from unibus.errors import InvalidInput
from unibus.model.bodies import Digest, Strict

MAX_MANIFEST = 4096
"""Bytes of a sealed manifest."""
MAX_PART = 8 * 2**20
"""Bytes of one part of an upload."""
MAX_SIZE = 2**53 - 1
"""What JSON's numbers carry exactly in every language (RFC 8259 section 6)."""
MAX_NAME = 255  # bytes, as for most file systems
_ID = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")


def check_blob_id(text: str) -> str:
    """`text` if it is a blob's id: 32 bytes in canonical base64url. Raises InvalidInput."""
    if not _ID.fullmatch(text):
        raise InvalidInput("a blob's id is 43 characters of base64url")
    return text


def check_blob_name(text: str) -> str:
    """`text` if it can name a blob: 1 to 255 bytes, printable, NFC, without separators. Raises InvalidInput."""
    bad = any(unicodedata.category(c)[0] in "CZ" and c != " " for c in text) or set(text) & set("/\\")
    size = len(text.encode("utf-8", "surrogatepass"))
    if bad or not 0 < size <= MAX_NAME or text in {".", ".."} or text != unicodedata.normalize("NFC", text):
        raise InvalidInput(f"a blob's name is 1 to {MAX_NAME} bytes of printable text without / or \\")
    return text


def _valid_name(text: str) -> str:
    try:
        return check_blob_name(text)
    except InvalidInput as error:
        raise ValueError(error.message) from error


def manifest_purpose(blob: str) -> Purpose:
    """The purpose of the frame that seals the manifest of the blob with that id."""
    return Purpose("blob manifest", blob)


class BlobManifest(Strict):
    """What only members may know of a blob: its name, its plaintext's bytes, its key, and its media type if told."""

    name: Annotated[str, AfterValidator(_valid_name)]
    size: Annotated[int, Field(ge=0, le=MAX_SIZE)]
    key: Digest  # 32 bytes in base64url, as a digest is
    media_type: Annotated[str, Field(max_length=127, pattern=r"^[\x21-\x7e]+/[\x21-\x7e]+$")] | None = None
