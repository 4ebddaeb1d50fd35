"""The parts of addresses that several operations share, as the description shows them."""

from unibus.http.operations import Parameter
from unibus.model.names import ROOM_ID
from unibus.model.wire import PAGE

MAX_SEQUENCE = 2**31
MAX_ENTRY = 2**53
LONGEST_WAIT = 25  # seconds that a reader of the audit trail may wait for the next entry
_BLOB = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"

ROOM = Parameter("room", "path", "the room's id", {"type": "string", "pattern": f"^{ROOM_ID.pattern}$"}, required=True)
BLOB = Parameter(
    "blob",
    "path",
    "the SHA-256 of the sealed blob, in base64url",
    {"type": "string", "pattern": f"^{_BLOB}$"},
    required=True,
)
AFTER = Parameter(
    "after",
    "query",
    "the number of the last record that the asker has",
    {"type": "integer", "minimum": 0, "maximum": MAX_SEQUENCE, "default": 0},
)
AFTER_ENTRY = Parameter(
    "after",
    "query",
    "the number of the last entry that the asker has",
    {"type": "integer", "minimum": 0, "maximum": MAX_ENTRY, "default": 0},
)
WAIT = Parameter(
    "wait",
    "query",
    "seconds to wait for an entry if there is none yet",
    {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0},
)
AFTER_ROOM = Parameter(
    "after", "query", "`next` of the page before", {"type": "string", "pattern": f"^({ROOM_ID.pattern})?$"}
)
AFTER_BLOB = Parameter("after", "query", "`next` of the page before", {"type": "string", "pattern": f"^({_BLOB})?$"})
LIMIT = Parameter(
    "limit",
    "query",
    "the most items in the answer",
    {"type": "integer", "minimum": 0, "maximum": PAGE, "default": PAGE},
)
OFFSET = Parameter(
    "offset",
    "query",
    "where in the sealed blob the part begins",
    {"type": "integer", "minimum": 0, "maximum": 2**53},
    required=True,
)
THROUGH = Parameter(
    "through",
    "query",
    "SHA-256 in base64url of the sealed blob up to the end of this part; then no Content-Digest is needed",
    {"type": "string", "pattern": f"^{_BLOB}$"},
)
RANGE = Parameter("Range", "header", "one range of bytes (RFC 9110 section 14.2)", {"type": "string"})
IF_RANGE = Parameter("If-Range", "header", "the blob's ETag", {"type": "string"})
IF_NONE_MATCH = Parameter("If-None-Match", "header", "the ETag of an answer that the asker has", {"type": "string"})
