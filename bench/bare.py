"""The reference for a control-plane read: aiohttp with a handler that verifies one Ed25519 signature, and no more.

Run as `python -m bench.bare PUBLIC-NKEY`; prints `port N` and serves until it is ended. The same loop, the same
verifier and the same size of answer as unibus.
"""

import asyncio
import sys
from base64 import b64decode

import uvloop
from aiohttp import web

from unibus.crypto.nkeys import verify


async def serve(public: str) -> None:
    """Serve on a free port of this machine, without end."""
    answer = b'{"records":[],"head":{"sequence":2,"hash":"' + b"A" * 43 + b'"}}'

    async def handle(request: web.Request) -> web.Response:
        if not verify(public, request.headers["X-Signed"].encode(), b64decode(request.headers["X-Signature"])):
            raise web.HTTPUnauthorized
        return web.Response(body=answer, content_type="application/json")

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("port", runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
