"""Connections to the bus a second: each checked by the daemon, beside a nats-server that has the users' keys itself."""

import secrets
from collections.abc import AsyncGenerator

from bench import promises
from bench.dial import rate
from bench.harness import Case, Metric, Sample, Side
from bench.plan import Plan
from bench.prepared import prepare
from bench.programs import daemon, fresh, nats_child, nats_port
from bench.stage import Stage
from unibus.crypto.identity import Identity

AT_ONCE = 32


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """One case: the same users on a bus of their own and in a configuration."""
    owner, *users = (Identity.from_secret(secrets.token_bytes(32)) for _ in range(plan.users + 1))
    keys = [user.signing for user in users]
    where = fresh(stage.directory / "connections")
    await prepare(where / "unibus", owner, [(f"user-{number}", user) for number, user in enumerate(users)], 0)
    static = {"authorization": {"users": [{"nkey": key.public} for key in keys]}}
    async with daemon(where) as (url, _), nats_child(where / "static", static) as server:
        ports = await nats_port(url), server.port

        async def connects(port: int) -> Sample:
            return (await rate(port, keys, plan.connections, AT_ONCE),)

        yield Case(
            (Metric("authenticated connections", "connections/s"),),
            (
                Side("unibus", promises.CALLOUT, lambda: connects(ports[0])),
                Side(f"static nkeys ({len(keys)} users)", promises.STATIC, lambda: connects(ports[1]), (">= 0.5",)),
            ),
        )
