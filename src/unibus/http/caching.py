"""ETags, conditional reads and gzip for what is read again and again (RFC 9110 sections 8.8, 12.5.3 and 13).

The tag is the digest of what is answered, heads of logs included, so that it can never outlive it. If-None-Match and
Accept-Encoding are not signed: whoever changes them on the way can as well drop the answer. It is compared only after
the handler has authenticated, so a tag tells nobody anything.

What is compressed here must never hold a secret beside something that a stranger chooses (the attack called BREACH):
records and sealed keys are no secrets, and nothing that comes with a request is repeated in such an answer.
"""

import asyncio
import gzip
import re
from functools import lru_cache, wraps
from hashlib import sha256

from aiohttp import hdrs, web

from unibus.crypto.encoding import b64u
from unibus.http.operations import Handler

WORTH_IT = 1024
"""Bytes from which on an answer is compressed."""
LEVEL = 5

_TAG = re.compile(r'(?:W/)?("[^"]*")')
_GZIP = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?P<weight>[0-9.]+)\s*)?(?=,|$)", re.IGNORECASE)


def takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header lets an answer be compressed."""
    found = _GZIP.search(accepted)
    return found is not None and (found["weight"] or "1").strip("0.") != ""


def tag_matches(if_none_match: str, tag: str) -> bool:
    """Whether the asker has what `tag`, in its quotes, names; both codings of it are the same here."""
    if not if_none_match:
        return False
    return if_none_match.strip() == "*" or bool({tag, _compressed_tag(tag)} & set(_TAG.findall(if_none_match)))


def _tag(body: bytes) -> str:
    return f'"{b64u(sha256(body).digest())}"'


# Most who ask find nothing new: the same short answer again and again.
_known_tag = lru_cache(maxsize=256)(_tag)


def _compressed_tag(tag: str) -> str:
    # RFC 9110 section 8.8.3.3: other bytes, other strong tag.
    return f'{tag[:-1]}-gzip"'


def conditional(handler: Handler) -> Handler:
    """`handler`, whose 200 answers get a tag, become 304 for who has them, and are compressed where that pays."""

    @wraps(handler)
    async def tagged(request: web.Request) -> web.StreamResponse:
        response = await handler(request)
        if not isinstance(response, web.Response) or response.status != 200 or not isinstance(response.body, bytes):
            return response
        body = response.body
        tag = _known_tag(body) if len(body) < WORTH_IT else _tag(body)
        compress = len(body) >= WORTH_IT and takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        unchanged = tag_matches(request.headers.get(hdrs.IF_NONE_MATCH, ""), tag)
        if unchanged:
            response = web.Response(status=304)
        elif compress:
            response.body = await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        response.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        response.headers[hdrs.CACHE_CONTROL] = "private, no-cache"
        response.headers[hdrs.ETAG] = _compressed_tag(tag) if compress else tag
        return response

    return tagged
