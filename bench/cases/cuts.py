"""How long somebody who loses a right stays connected, while many others are: `bench.revocation`, as a case."""

import sys
from collections.abc import AsyncGenerator

from bench import promises
from bench.harness import Case, Metric, Sample, Side, percentile
from bench.plan import Plan
from bench.programs import fresh
from bench.revocation import WAYS, crowd, cut
from bench.stage import Stage


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """One case, of all ways to lose a right together."""
    print(f"connecting {plan.users:,} others …", file=sys.stderr)
    where = fresh(stage.directory / "cuts")
    async with crowd(where, plan.users, plan.cuts * len(WAYS)) as place:
        left = iter(place.victims)

        async def measure() -> Sample:
            cuts = [await cut(place, *next(left), loses) for loses in WAYS.values() for _ in range(plan.cuts)]
            seconds = [each.from_request for each in cuts]
            return percentile(seconds, 0.5) * 1000, percentile(seconds, 0.99) * 1000

        yield Case(
            (Metric("cut off, p50", "ms"), Metric("cut off, p99", "ms", "< 100")),
            (Side("unibus", promises.CUT, measure),),
            rounds=1,
            seconds=120,
        )
