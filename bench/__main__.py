"""`python -m bench`: measure everything, print a table, leave nothing behind. Fails on errors only, never on speed."""

import asyncio
import json
import logging
import signal
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

import click
import nats.errors
import structlog
import uvloop

from bench.cases import (
    appends,
    blobs,
    cluster,
    connections,
    control,
    cuts,
    failover,
    fanout,
    homeserver,
    latency,
    members,
    publish,
    receive,
    returning,
    scale,
    start,
)
from bench.harness import Case, Row, in_turn, rows
from bench.machine import describe
from bench.plan import DEFAULT, QUICK, Plan
from bench.render import document, machine_line, table
from bench.stage import Stage, stage
from bench.wire import Refused
from unibus.errors import UnibusError

Question = Callable[[Stage, Plan], AsyncGenerator[Case, None]]

SHORT: Mapping[str, Question] = {
    "publish": publish.cases,
    "receive": receive.cases,
    "latency": latency.cases,
    "control": control.cases,
    "appends": appends.cases,
    "connections": connections.cases,
    "blobs": blobs.cases,
    "start": start.cases,
}
LONG: Mapping[str, Question] = {
    "cluster": cluster.cases,
    "failover": failover.cases,
    "fanout": fanout.cases,
    "homeserver": homeserver.cases,
    "cuts": cuts.cases,
    "returning": returning.cases,
    "members": members.cases,
    "scale": scale.cases,
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="fewer and shorter rounds, and not what takes long: under two minutes")
@click.option("--only", "names", multiple=True, type=click.Choice([*SHORT, *LONG]), help="this one; may be repeated")
@click.option("--json", "target", type=click.Path(path_type=Path, dir_okay=False), help="write the results there too")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True, resolve_path=True),
    help="where the data goes meanwhile; on the disk that matters to you",
)
def main(*, quick: bool, names: tuple[str, ...], target: Path | None, directory: Path | None) -> None:
    """Measure unibus beside its references, in turn, in one run."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    begin = time.monotonic()
    asked = {name: {**SHORT, **LONG}[name] for name in names} or (SHORT if quick else {**SHORT, **LONG})
    plan = QUICK if quick else DEFAULT
    try:
        with tempfile.TemporaryDirectory(prefix="unibus-bench-", dir=directory) as name:
            machine, results = uvloop.run(run_until_ended(Path(name), plan, list(asked.values())))
        if target is not None:
            text = json.dumps(document(results, machine, time.monotonic() - begin), indent=1, ensure_ascii=False)
            target.write_text(text + "\n")
    except asyncio.CancelledError:
        sys.exit("bench: ended before it was done")
    except (UnibusError, Refused, OSError, nats.errors.Error) as error:
        sys.exit(f"bench: {error}")
    print(table(results))
    print()
    print(machine_line(machine))


async def run_until_ended(
    directory: Path, plan: Plan, questions: Sequence[Question]
) -> tuple[dict[str, object], list[Row]]:
    """As `run`, but SIGTERM or SIGINT end it early, everything it started with it. Raises CancelledError then."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(run(directory, plan, questions))

    def end() -> None:
        # Messages on their way fail now, and nobody is left to hear of each.
        loop.set_exception_handler(lambda *_: None)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        return await task
    except nats.errors.Error:
        if task.cancelling():  # nats-py makes an error of its own of a cancellation
            raise asyncio.CancelledError from None
        raise


async def run(directory: Path, plan: Plan, questions: Sequence[Question]) -> tuple[dict[str, object], list[Row]]:
    """Measure what is asked, with all data under `directory`. Gives the machine's facts and the results.

    Raises UnibusError, OSError and nats.errors.Error where something fails, and TimeoutError where it hangs.
    """
    machine = await describe(directory)
    results: list[Row] = []
    async with stage(directory) as built:
        for question in questions:
            async with aclosing(question(built, plan)) as cases:
                async for case in cases:
                    print(f"measuring {case.metrics[0].name} …", file=sys.stderr)
                    results += rows(case, await in_turn(case, plan.rounds))
    return machine, results


if __name__ == "__main__":
    main()
