"""The API's description, served: `/openapi.json` for programs and `/docs` for people.

Made when somebody asks for the first time: few nodes are ever asked, and a start need not wait for it.
"""

import json
from collections.abc import Sequence
from functools import cache

from aiohttp import hdrs, web

from unibus.http.docs_page import POLICY, render
from unibus.http.openapi import describe
from unibus.http.operations import Answer, Asker, Operation


def described(operations: Sequence[Operation], version: str) -> list[Operation]:
    """`operations`, and the two that tell of them and of themselves."""

    async def openapi(_request: web.Request) -> web.Response:
        """This description (OpenAPI 3.1)."""
        return web.Response(body=document(), content_type="application/json")

    async def docs(_request: web.Request) -> web.Response:
        """This description as a page for people."""
        headers = {
            hdrs.CONTENT_TYPE: "text/html; charset=utf-8",
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        return web.Response(body=page(), headers=headers)

    shown = Answer(200, "the description", "application/json")
    everything = [
        *operations,
        Operation("GET", "/openapi.json", openapi, Asker.ANYBODY, [shown], tagged=True, head=True),
        Operation("GET", "/docs", docs, Asker.ANYBODY, [Answer(200, "a page", "text/html")], tagged=True, head=True),
    ]

    @cache
    def document() -> bytes:
        return json.dumps(describe(everything, version)).encode()

    @cache
    def page() -> bytes:
        return render(describe(everything, version)).encode()

    return everything
