"""`unibus health`: a node's health and posture; the exit code says whether it is well."""

from collections.abc import Iterator, Mapping

import click

from unibus.cli.context import DEADLINE, Shared, pass_shared, run
from unibus.cli.output import emit, examples, printable, say


@click.command(
    "health",
    short_help="how a node is, and how secure it really runs",
    epilog=examples("unibus --url https://bus.example:8470 --ca authority.pem health"),
)
@pass_shared
@click.pass_context
def command(context: click.Context, shared: Shared) -> None:
    """Show how the node is and how secure it really runs. Exits with 1 when it is degraded."""
    from unibus.client.health import fetch_health

    found = run(fetch_health(shared.url, DEADLINE, shared.tls))
    if shared.json:
        emit(found)
    else:
        rows = list(lines(found))
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            say(f"{printable(name):{width}}  {printable(value)}")
    context.exit(0 if found["status"] == "ok" else 1)


def lines(found: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and value of everything in a health answer, nested names joined by a blank."""
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from lines(value, f"{prefix}{name} ")
        elif isinstance(value, list):
            for item in value:
                yield f"{prefix}{name}", str(item)
        else:
            yield f"{prefix}{name}", _word(value)


def _word(value: object) -> str:
    return {True: "yes", False: "no", None: "-"}[value] if value is None or isinstance(value, bool) else str(value)
