"""One node of a cluster, seen by who moves a bus into it: each route of a move, with the bootstrap token.

What travels names everybody on the bus, so nothing is sent to another machine in the clear, nor on the word of just any
authority that the system knows. Each call is tried once: whoever calls again goes on where this ended.
"""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import aiohttp
from pydantic import ValidationError
from yarl import URL

from unibus.client.exchange import read_whole, refusal, unreachable
from unibus.client.nodes import parse_urls
from unibus.errors import InvalidInput, StorageUnavailable, Unreachable, Untrusted
from unibus.model.bodies import Strict
from unibus.model.moving import MoveView
from unibus.model.wire import BusView, UploadView

READ = 2**20
_PATIENCE = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=3600.0)
"""The node verifies and copies all there is before it answers."""
Model = TypeVar("Model", bound=Strict)


def target_url(url: str, ca: Path | None) -> URL:
    """The one node in `url`. Raises InvalidInput when what is moved would travel in the clear, or to who knows whom."""
    nodes = parse_urls(url)
    if len(nodes) > 1:
        raise InvalidInput("a bus is moved into a cluster through one of its nodes: name the one whose token you have")
    (node,) = nodes
    if _is_loopback(node.host or ""):
        return node
    if node.scheme != "https":
        raise InvalidInput(
            f"handles, roles and keys would travel to {node.host} in the clear: give its node a certificate, and say "
            "https:// and --ca"
        )
    if ca is None:
        raise InvalidInput(
            f"say with --ca whose certificate to take for {node.host}: it is sent handles, roles and keys of everybody"
        )
    return node


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class MoveTarget:
    """The node at `url`, as `target_url` allowed it; `token` gives its bootstrap token when it is needed."""

    def __init__(self, url: URL, token: Callable[[], str], session: aiohttp.ClientSession) -> None:
        self.url = url
        self._token = token
        self._session = session

    async def bus(self) -> str | None:
        """The bus that the node serves, None if it serves none, or none yet."""
        try:
            return (await self._ask(BusView, "GET", URL("/v1/bus"), token=False)).bus
        except StorageUnavailable:
            return None

    async def look(self) -> MoveView:
        """How far a move is. Raises BootstrapRefused, and whatever keeps a bus from being moved there."""
        return await self._ask(MoveView, "GET", URL("/v1/move"))

    async def send(self, what: str, path: Path, progress: Callable[[int], object]) -> MoveView:
        """Send the manifest, the records or the messages; `progress` is told how many bytes are out."""
        with path.open("rb") as file:

            async def blocks() -> AsyncIterator[bytes]:
                while block := file.read(READ):
                    yield block
                    progress(file.tell())

            return await self._ask(MoveView, "PUT", URL("/v1/move") / what, blocks())

    async def uploaded(self, room: str, blob: str) -> UploadView:
        """How much of a blob is there."""
        return await self._ask(UploadView, "GET", _blob(room, blob))

    async def upload(self, room: str, blob: str, offset: int, blocks: AsyncIterator[bytes]) -> UploadView:
        """Send the part of a blob that begins at `offset`."""
        return await self._ask(UploadView, "PUT", _blob(room, blob).with_query(offset=offset), blocks)

    async def finish(self) -> MoveView:
        """Have all records copied and compared, and the bus served."""
        return await self._ask(MoveView, "POST", URL("/v1/move"))

    async def _ask(
        self,
        model: type[Model],
        method: str,
        path: URL,
        body: AsyncIterator[bytes] | None = None,
        *,
        token: bool = True,
    ) -> Model:
        headers = {"Authorization": f"Bearer {self._token()}"} if token else {}
        url = self.url.join(path)
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False, timeout=_PATIENCE
            ) as response:
                answer = await read_whole(response)
                if response.status != 200:
                    raise refusal(response, answer)
                return model.model_validate_json(answer)
        except TimeoutError as error:
            raise Unreachable(f"{self.url} does not answer: repeat the command to go on") from error
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(self.url, error) from error
        except ValidationError as error:
            raise Untrusted(f"{url} does not answer as a unibus node does") from error


def _blob(room: str, blob: str) -> URL:
    return URL("/v1/move/rooms") / room / "blobs" / blob


@asynccontextmanager
async def reach_target(url: URL, token: Callable[[], str], tls: ssl.SSLContext | None) -> AsyncIterator[MoveTarget]:
    """The node at `url`; `tls` says which certificates are taken over https, None the system's."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls or True),
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
    ) as session:
        yield MoveTarget(url, token, session)
