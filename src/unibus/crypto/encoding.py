"""Strict base64url (RFC 4648 section 5, unpadded) and canonical JSON for what gets hashed or signed.

Strict means one text for one value: padding, other alphabets and stray trailing bits are refused, so that nobody
can make two texts of one signed thing.
"""

import binascii
import json
import math

from unibus.errors import InvalidInput

# What the two alphabets of base64 do not share; the standard one's own characters become none at all.
_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/   ")
_TO_URL = bytes.maketrans(b"+/", b"-_")
# By how many characters stand beyond the last whole four: what pads them, and which last ones have no stray bits.
_PADDING = (b"", b"===", b"==", b"=")
_LAST = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")


def b64u(data: bytes) -> str:
    """`data` as unpadded base64url text."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=").decode("ascii")


def unb64u(text: str | bytes, *, size: int | None = None) -> bytes:
    """The bytes behind unpadded base64url `text`; `size`, if given, is the exact number of bytes wanted.

    Raises InvalidInput for anything but the one canonical text.
    """
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
        data = binascii.a2b_base64(raw.translate(_TO_STANDARD) + _PADDING[len(raw) % 4], strict_mode=True)
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise InvalidInput("not base64url without padding") from error
    if len(raw) % 4 and raw[-1] not in _LAST[len(raw) % 4]:
        raise InvalidInput("not canonical base64url without padding")
    if size is not None and len(data) != size:
        raise InvalidInput(f"expected {size} bytes, got {len(data)}")
    return data


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidInput("an object names a member twice")
    return found


def dump_json(value: object) -> bytes:
    """Compact JSON with sorted members, as UTF-8. Signed bytes are kept as they are, never made again."""
    return _ENCODER.encode(value).encode()


def load_json(data: bytes | str) -> object:
    """Parse JSON, refusing duplicate members, NaN and infinities, anything but UTF-8, and absurd nesting."""
    try:
        # Decoded here: json.loads would also take UTF-16, UTF-32 and encoded surrogates, which other readers refuse.
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("not valid JSON") from error


def _refuse_constant(name: str) -> object:
    raise InvalidInput(f"{name} is not JSON")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidInput("a number is beyond what can be represented")
    return number


_ENCODER = json.JSONEncoder(separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False)
_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_constant=_refuse_constant, parse_float=_finite_float
)


def transcript(label: str, *parts: bytes | str | int) -> bytes:
    """One unambiguous byte string of a label and parts, for hashing, signing, deriving and as associated data.

    Each part, the label first, is preceded by its length as four bytes, big endian; text is UTF-8 and a
    number is eight bytes, big endian. Under one label, whose parts have fixed kinds, no two lists give the same bytes.
    """
    encoded: list[bytes] = []
    for part in (label, *parts):
        data = part if isinstance(part, bytes) else part.encode() if isinstance(part, str) else part.to_bytes(8, "big")
        encoded += (len(data).to_bytes(4, "big"), data)
    return b"".join(encoded)
