"""The reference for the control plane: aiohttp with handlers that do the least that could be called the same.

Run as `python -m bench.bare PUBLIC-NKEY FILE`; prints `port N PROCESS` and serves until it is ended. A read
verifies one Ed25519 signature, with the same verifier, and answers with as many bytes as unibus. A blob is kept in
`FILE` and read from there, whoever asks. On the same event loop as unibus.
"""

import asyncio
import os
import sys
from base64 import b64decode
from pathlib import Path

import uvloop
from aiohttp import web

from unibus.crypto.nkeys import verify


async def serve(public: str, blob: Path) -> None:
    """Serve on a free port of this machine, without end."""
    answer = b'{"records":[],"head":{"sequence":2,"hash":"' + b"A" * 43 + b'"}}'

    async def handle(request: web.Request) -> web.Response:
        if not verify(public, request.headers["X-Signed"].encode(), b64decode(request.headers["X-Signature"])):
            raise web.HTTPUnauthorized
        return web.Response(body=answer, content_type="application/json")

    async def keep(request: web.Request) -> web.Response:
        with blob.open("wb") as file:
            async for part in request.content.iter_any():
                file.write(part)
        return web.Response()

    async def give(_: web.Request) -> web.FileResponse:
        return web.FileResponse(blob)

    app = web.Application()
    app.router.add_get("/", handle)
    app.router.add_put("/blob", keep)
    app.router.add_get("/blob", give)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("port", runner.addresses[0][1], os.getpid(), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], Path(sys.argv[2])))
