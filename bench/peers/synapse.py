"""Synapse, the Matrix homeserver, on its default SQLite, without its rate limits: one room, everybody follows it.

The client-server API as far as a benchmark needs it (https://spec.matrix.org/v1.11/client-server-api/).
"""

import asyncio
import json
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from bench.programs import fresh, healthy, running
from unibus.cluster.ports import free_ports
from unibus.tasks import end_tasks

CHANGED = "changed: users and rights checked, in SQLite as it comes (defaults, no rate limits)"
PROMISE = "sent: in the clear, users and rights checked, in SQLite as it comes (defaults, no rate limits)"
MISSING = "synapse is left out: python -m venv DIR && DIR/bin/pip install matrix-synapse, then have DIR/bin in the PATH"
SERVER = "bench"
AT_ONCE = 16  # messages on their way
FOLLOW_SECONDS = 30
FILTER = json.dumps({"presence": {"types": []}, "room": {"timeline": {"limit": 1000, "types": ["m.room.message"]}}})
_UNLIMITED = {"per_second": 1e6, "burst_count": 1_000_000}


def found() -> Path | None:
    """The Python that has Synapse; None where it is not installed."""
    script = shutil.which("synapse_homeserver")
    return Path(script).with_name("python") if script else None


@asynccontextmanager
async def server(where: Path, python: Path) -> AsyncIterator[str]:
    """A server without users; gives its URL. Raises StartRefused."""
    fresh(where)
    module = (str(python), "-m", "synapse.app.homeserver")
    own, more = where / "homeserver.yaml", where / "more.yaml"
    making = ("--generate-config", "--server-name", SERVER, "--config-path", str(own), "--report-stats=no")
    # Where it makes its configuration is where it will keep its log.
    async with running([*module, *making, "--data-directory", str(where)], where / "config.log", where) as process:
        await process.wait()
    (port,) = free_ports(1)
    more.write_text(json.dumps(_settings(port)))  # JSON is YAML
    async with running([*module, "-c", str(own), "-c", str(more)], where / "synapse.log"):
        url = f"http://127.0.0.1:{port}"
        await healthy(f"{url}/health")
        yield url


def _settings(port: int) -> Mapping[str, object]:
    client = {"port": port, "type": "http", "bind_addresses": ["127.0.0.1"], "resources": [{"names": ["client"]}]}
    both = {"local": _UNLIMITED, "remote": _UNLIMITED}
    return {
        "listeners": [client],
        "enable_registration": True,
        "enable_registration_without_verification": True,
        "bcrypt_rounds": 4,  # making users is not what is measured
        "rc_message": _UNLIMITED,
        "rc_registration": _UNLIMITED,
        "rc_joins": both,
        "rc_joins_per_room": _UNLIMITED,
        "rc_room_creation": _UNLIMITED,
        "rc_login": dict.fromkeys(("address", "account", "failed_attempts"), _UNLIMITED),
        "trusted_key_servers": [],
    }


class User:
    """One user of the server at `url`. Made by `register`."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self._api = f"{url}/_matrix/client/v3"
        self._headers = {"Authorization": f"Bearer {token}"}

    async def create_room(self) -> str:
        """A room that anybody may join; its id."""
        body = {"preset": "public_chat", "visibility": "private"}
        return str((await self._ask("POST", "/createRoom", body))["room_id"])

    async def join(self, room: str) -> None:
        """Be in the room."""
        await self._ask("POST", f"/join/{room}", {})

    async def send(self, room: str, text: str) -> None:
        """Send one message."""
        path = f"/rooms/{room}/send/m.room.message/{secrets.token_hex(8)}"
        await self._ask("PUT", path, {"msgtype": "m.text", "body": text})

    async def send_all(self, room: str, text: str, count: int) -> None:
        """Send so many messages, several at once."""
        left = iter(range(count))

        async def some() -> None:
            for _ in left:
                await self.send(room, text)

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))

    async def follow(self, room: str, arrived: Callable[[], None], ready: Callable[[], None]) -> None:
        """Hear of messages from now on, without end."""
        state = await self._ask("GET", "/sync", params={"filter": FILTER})
        ready()
        while True:
            since = {"since": state["next_batch"], "timeout": str(FOLLOW_SECONDS * 1000), "filter": FILTER}
            state = await self._ask("GET", "/sync", params=since)
            joined = state.get("rooms", {}).get("join", {}).get(room, {})
            for _ in joined.get("timeline", {}).get("events", ()):
                arrived()

    async def _ask(
        self, method: str, path: str, body: object = None, params: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        asked = self._session.request(method, self._api + path, json=body, params=params, headers=self._headers)
        async with asked as answer:
            found: dict[str, Any] = await answer.json()
            if answer.status != 200:
                raise OSError(f"synapse answered {answer.status}: {found.get('error')}")
            return found


async def register(session: aiohttp.ClientSession, url: str, name: str) -> User:
    """A new user. Raises OSError."""
    body = {"username": name, "password": secrets.token_hex(8), "auth": {"type": "m.login.dummy"}}
    async with session.post(f"{url}/_matrix/client/v3/register", json=body) as answer:
        found = await answer.json()
        if answer.status != 200:
            raise OSError(f"synapse answered {answer.status}: {found.get('error')}")
        return User(session, url, found["access_token"])


@asynccontextmanager
async def room_with(url: str, receivers: int, arrived: Callable[[], None]) -> AsyncIterator[tuple[User, str]]:
    """A sender and a room that so many follow; `arrived` hears of what each of them gets."""
    connector = aiohttp.TCPConnector(limit=receivers + 2 * AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as session:
        prefix = secrets.token_hex(4)
        sender = await register(session, url, f"{prefix}-sender")
        room = await sender.create_room()
        users = [await register(session, url, f"{prefix}-{number}") for number in range(receivers)]
        for user in users:  # all of them before anybody follows: else each would hear of each who joins
            await user.join(room)
        ready: Sequence[asyncio.Event] = [asyncio.Event() for _ in users]
        following = [
            asyncio.create_task(user.follow(room, arrived, event.set)) for user, event in zip(users, ready, strict=True)
        ]
        try:
            await asyncio.gather(*(event.wait() for event in ready))
            yield sender, room
        finally:
            await end_tasks(*following)
