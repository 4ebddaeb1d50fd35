"""Errors as problem details (RFC 9457), both directions: the daemon writes them, the client reads them back.

Pure. What comes in is untrusted: a server's problem may never raise here, pass for an error that only the client itself
can find (that the server lies, that a local file is unsafe), or carry control characters to somebody's terminal.
"""

import unicodedata
from http import HTTPStatus

from pydantic import BaseModel, ConfigDict

from unibus.crypto.encoding import load_json
from unibus.errors import (
    BY_CODE,
    PROBLEM_PREFIX,
    BackupInvalid,
    InvalidInput,
    KeyCustody,
    StartRefused,
    Unanswered,
    UnibusError,
    Unreachable,
    Untrusted,
    from_code,
)

CONTENT_TYPE = "application/problem+json"
MAX_DETAIL = 500
"""Characters of a detail that are shown to people."""

_RESERVED = frozenset({"type", "title", "status", "detail", "instance"})
_LOCAL = (Untrusted, BackupInvalid, KeyCustody, StartRefused, Unanswered, Unreachable)
_GATEWAY = frozenset({502, 503, 504})


class Problem(BaseModel):
    """Problem details (RFC 9457). `type` is `urn:unibus:problem:` and a code, or `about:blank`: the status says it all.

    `detail` is a sentence for people. The other members go with some codes: the head of the log that has moved on
    (`log` where it is the directory's), the `offset` to go on at, the `limit` or what is `left` in bytes, `retry_after`
    in seconds, `server_time` in Unix seconds, and the number of an `incident` to tell the operator.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    type: str
    title: str
    status: int
    detail: str
    sequence: int | None = None
    hash: str | None = None
    log: str | None = None
    offset: int | None = None
    limit: int | None = None
    left: int | None = None
    retry_after: float | None = None
    server_time: int | None = None
    incident: str | None = None


def to_problem(error: UnibusError) -> dict[str, object]:
    """The members of the problem that stands for `error`. Its `extra` cannot replace the standard members."""
    return {
        **error.extra,
        "type": PROBLEM_PREFIX + error.code,
        "title": error.title,
        "status": error.status,
        "detail": error.message,
    }


def plain_problem(status: int, detail: str) -> dict[str, object]:
    """A problem of which the HTTP status says it all: `about:blank` (RFC 9457 section 4.2.1)."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase.lower(), "status": status, "detail": detail}


def from_problem(status: int, body: bytes) -> UnibusError:
    """The error that an answer with `status` and `body` stands for. Never raises.

    A problem of ours becomes its own class again. Anything else becomes a plain UnibusError that names the status, or
    Unreachable where a gateway in between could not reach the daemon.
    """
    members = _members(body)
    detail = _shown(members.get("detail")) or _shown(members.get("title"))
    kind = members.get("type")
    if isinstance(kind, str) and kind.startswith(PROBLEM_PREFIX):
        code = kind.removeprefix(PROBLEM_PREFIX)
        if not issubclass(BY_CODE.get(code, UnibusError), _LOCAL):
            extra = {name: value for name, value in members.items() if name not in _RESERVED}
            return from_code(code, detail, extra)
    if status in _GATEWAY and not detail:
        return Unreachable(f"something between here and the daemon answered {status}; is the daemon running?")
    return UnibusError(detail or f"the server answered {status} without saying why; is this the right address?")


def _members(body: bytes) -> dict[str, object]:
    try:
        found = load_json(body)
    except InvalidInput:
        return {}
    return found if isinstance(found, dict) else {}


def _shown(text: object) -> str:
    """`text` made fit for a terminal: one line, no control or format characters, bounded."""
    if not isinstance(text, str):
        return ""
    return "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[:MAX_DETAIL]).strip()
