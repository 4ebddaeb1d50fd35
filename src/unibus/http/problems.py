"""Every failed request answers with problem details (RFC 9457); this is where errors turn into HTTP.

Must never let an unexpected error's text, type or traceback out: it is logged under an incident number, and only that
number is told.
"""

import json
import math
import time
from collections import defaultdict
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
from unibus.services.refusals import Allowance

LEFT = 499
"""What is counted where whoever asked did not wait for the answer, as proxies do: no mistake here, and no refusal."""
FAILED_AT_ONCE = 60
"""So many failures of one cause are logged, and as many an hour: an outage fails every request that comes meanwhile."""


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
        """It is answered with `status`, refused for `error` if any, `seconds` after it came. Must not raise.

        The status is `LEFT` where nobody was there any more for an answer that had to be sent piece by piece.
        """


def answering(
    log: structlog.stdlib.BoundLogger,
    incident: Callable[[], str],
    *watchers: Watcher,
    clock: Callable[[], float] = time.perf_counter,
) -> Answering:
    """What answers all requests. `incident` gives a fresh random number for each unexpected error.

    `watchers` see a request begin in their order and end in the reverse one; one that refuses a request hides it from
    none of them. `clock` gives seconds that never go back.
    """
    failures = _Failures(log, incident)
    begins = [watcher.begins for watcher in watchers]
    ends = [watcher.ends for watcher in reversed(watchers)]

    async def answer_with_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = clock()
        status, refused = 500, None
        try:
            for begin in begins:
                begin(request)
            response = await handler(request)
            status = response.status
        except UnibusError as error:
            status, refused = error.status, error
            if status >= 500:
                failures.note(error, request, began)
            _check_nothing_is_out(request)
            return problem_response(error)
        except web.HTTPException as error:
            status = error.status
            raise  # aiohttp's own answers become problems in `http.site`, together with those that never get here
        except ClientConnectionResetError:
            status = LEFT
            raise ConnectionAbortedError from None
        except Exception:  # noqa: BLE001 - whatever it was, who asked is answered
            return failures.broken(request)
        else:
            return response
        finally:
            seconds = clock() - began
            for end in ends:
                end(request, status, refused, seconds)
            refused = None  # it holds this frame by its traceback, and must not be held by it in turn

    return answer_with_problems


class _Failures:
    """What a node could not do, in its log."""

    def __init__(self, log: structlog.stdlib.BoundLogger, incident: Callable[[], str]) -> None:
        self._log = log
        self._incident = incident
        self._allowed: defaultdict[str, Allowance] = defaultdict(lambda: Allowance(FAILED_AT_ONCE))

    def note(self, error: UnibusError, request: web.Request, now: float) -> None:
        """Note an error that was foreseen, unless it was noted too often: each has its own, and hides no other."""
        if isinstance(error, ConnectionsExhausted):
            return  # what any stranger can bring about: `/metrics` counts it
        left_out = self._allowed[error.code].note(now)
        if left_out is not None:
            told = {"method": request.method, "path": request.path, "error": error.message}
            self._log.warning("request failed", **told, left_out=left_out)

    def broken(self, request: web.Request) -> web.Response:
        """The answer for the error at hand, which nobody foresaw. Raises ConnectionAbortedError as below."""
        number = self._incident()
        self._log.exception("request broke", incident=number, method=request.method, path=request.path)
        _check_nothing_is_out(request)
        message = f"the server made a mistake; tell its operator the number {number}, its log has more"
        return problem_response(UnibusError(message, incident=number))


def _check_nothing_is_out(request: web.Request) -> None:
    """Raise ConnectionAbortedError if part of another answer is out: only that tells the asker that it is not whole."""
    if request.writer.output_size > 0:
        raise ConnectionAbortedError from None


def _answer(status: int, members: Mapping[str, object], headers: Mapping[str, str]) -> web.Response:
    own = {hdrs.CONTENT_TYPE: CONTENT_TYPE, hdrs.CACHE_CONTROL: "no-store", **headers}
    return Whole(json.dumps(members).encode(), status, CIMultiDict(own))
