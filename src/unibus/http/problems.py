"""Every failed request answers with problem details (RFC 9457); this is where errors turn into HTTP.

Must never let an unexpected error's text, type or traceback out: it is logged under an incident number, and only that
number is told.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog
from aiohttp import ClientConnectionResetError, hdrs, web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

from unibus.errors import ConnectionsExhausted, NotFound, TooLarge, UnibusError
from unibus.http.dispatch import Answering
from unibus.http.whole import Whole
from unibus.model.problem import CONTENT_TYPE, plain_problem, to_problem


def problem_response(error: UnibusError) -> web.Response:
    """The answer that stands for `error`."""
    # RFC 9110 section 15.5.2: a 401 names the scheme that is asked for.
    headers: dict[str, str] = {hdrs.WWW_AUTHENTICATE: 'Signature realm="unibus"'} if error.status == 401 else {}
    retry_after = error.extra.get("retry_after")
    if isinstance(retry_after, float):
        headers[hdrs.RETRY_AFTER] = str(math.ceil(retry_after))
    return _answer(error.status, to_problem(error), headers)


def refusal(error: web.HTTPException) -> web.Response:
    """The answer for an error status that aiohttp itself found: no such route, other method, body too large."""
    match error.status:
        case 404:
            return problem_response(NotFound("there is no such address here"))
        case 413:
            return problem_response(TooLarge())
        case 405:
            allowed = error.headers.get(hdrs.ALLOW, "")
            return plain_response(405, f"this address takes {allowed}", {hdrs.ALLOW: allowed})
        case status:
            return plain_response(status, error.text or error.reason)


def plain_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """The answer for a refusal that has no code of its own."""
    return _answer(status, plain_problem(status, detail), headers or {})


class Watcher(Protocol):
    """Sees every request come and go; what answers calls all of them, so that one coroutine serves for all."""

    def begins(self, request: web.Request) -> None:
        """A request came; no handler has seen it. Raises UnibusError to refuse it."""

    def ends(self, request: web.Request, status: int, error: UnibusError | None, seconds: float) -> None:
        """It is answered with `status`, refused for `error` if any, `seconds` after it came. Must not raise."""


def answering(log: structlog.stdlib.BoundLogger, incident: Callable[[], str], *watchers: Watcher) -> Answering:
    """What answers all requests. `incident` gives a fresh random number for each unexpected error.

    `watchers` see a request begin in their order and end in the reverse one; one that refuses a request hides it from
    none of them.
    """
    begins = [watcher.begins for watcher in watchers]
    ends = [watcher.ends for watcher in reversed(watchers)]

    async def answer_with_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        status, refused = 500, None
        try:
            for begin in begins:
                begin(request)
            response = await handler(request)
            status = response.status
        except UnibusError as error:
            status, refused = error.status, error
            # Not what any stranger can bring about thousands of times a second: `/metrics` counts it.
            if status >= 500 and not isinstance(error, ConnectionsExhausted):
                log.warning("request failed", method=request.method, path=request.path, error=error.message)
            return problem_response(error)
        except web.HTTPException as error:
            status = error.status
            raise  # aiohttp's own answers become problems in `http.site`, together with those that never get here
        except Exception as error:  # noqa: BLE001 - whatever it was, who asked is answered
            return _broken(error, request, log, incident)
        else:
            return response
        finally:
            seconds = time.perf_counter() - began
            for end in ends:
                end(request, status, refused, seconds)
            refused = None  # it holds this frame by its traceback, and must not be held by it in turn

    return answer_with_problems


def _broken(
    error: Exception, request: web.Request, log: structlog.stdlib.BoundLogger, incident: Callable[[], str]
) -> web.Response:
    """The answer for an error that nobody expected. Raises ConnectionAbortedError where there can be none."""
    begun = request.writer.output_size > 0
    if _is_left(error, begun=begun):
        raise ConnectionAbortedError from None
    number = incident()
    log.exception("request broke", incident=number, method=request.method, path=request.path)
    if begun:
        # Part of another answer is out: only an aborted connection tells the client that it is not whole.
        raise ConnectionAbortedError from None
    message = f"the server made a mistake; tell its operator the number {number}, its log has more"
    return problem_response(UnibusError(message, incident=number))


def _is_left(error: Exception, *, begun: bool) -> bool:
    """Whether an answer ends because its asker is gone, or, once it has `begun`, takes no more or may have no more.

    That is no mistake here, and whoever asks could fill a disk with what would be logged of it.
    """
    if not begun or not isinstance(error, ConnectionError):
        return isinstance(error, ClientConnectionResetError)
    why = error.__cause__ or error
    return isinstance(why, ConnectionError | TimeoutError) or (isinstance(why, UnibusError) and why.status < 500)


def _answer(status: int, members: Mapping[str, object], headers: Mapping[str, str]) -> web.Response:
    own = {hdrs.CONTENT_TYPE: CONTENT_TYPE, hdrs.CACHE_CONTROL: "no-store", **headers}
    return Whole(json.dumps(members).encode(), status, CIMultiDict(own))
