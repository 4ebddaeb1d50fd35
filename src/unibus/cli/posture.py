"""`unibus posture`: every node of a bus asked how it really runs, in one table. For people, cron and monitors."""

from pathlib import Path

import click

from unibus.cli.context import DEADLINE, Shared, pass_shared, run
from unibus.cli.output import columns, emit, examples, note, printable, say
from unibus.errors import InvalidInput, reason_of


@click.command(
    "posture",
    short_help="all nodes of a bus, how they really run and where they differ",
    epilog=examples(
        "unibus posture https://n1.example:8470 https://n2.example:8470",
        "unibus --ca deploy/tls/ca.crt posture deploy/cluster/nodes.env",
    ),
)
@click.argument("nodes", nargs=-1, metavar="URL...|NODES.ENV")
@pass_shared
@click.pass_context
def command(context: click.Context, shared: Shared, nodes: tuple[str, ...]) -> None:
    """Ask every node how it really runs, and show a table.

    Name the nodes by their URLs, or name a nodes.env; without either, the nodes of --url are asked. Exits with 1 when a
    node is silent or degraded, is not enforce, acl and tls, differs from the others, or sees no quorum.
    """
    import asyncio

    from unibus.client.health import fetch_health
    from unibus.cluster.posture import HEAD, Asked, faults, row
    from unibus.errors import UnibusError

    tls = shared.tls

    async def ask(url: str) -> Asked:
        try:
            return Asked(url, await fetch_health(url, DEADLINE, tls))
        except UnibusError as error:
            return Asked(url, None, error.message)

    async def ask_all(urls: list[str]) -> list[Asked]:
        return await asyncio.gather(*(ask(url) for url in urls))

    found = run(ask_all(urls_of(nodes or tuple(shared.url.split(",")))))
    wrong = faults(found)
    if shared.json:
        for node in found:
            emit({"url": node.url, "health": node.health, "silence": node.silence or None})
        emit({"faults": wrong})
    else:
        for line in columns(HEAD, map(row, found)):
            say(line)
        for fault in wrong:
            note(printable(fault))
    context.exit(1 if wrong else 0)


def urls_of(nodes: tuple[str, ...]) -> list[str]:
    """The URLs that are meant: as they are, or of all nodes of a `nodes.env`. Raises InvalidInput."""
    urls: list[str] = []
    for node in nodes:
        if "://" in node:
            urls.append(node)
        else:
            urls += _in_file(Path(node))
    return urls


def _in_file(path: Path) -> list[str]:
    from unibus.cluster.nodes import bracketed, parse

    try:
        cluster = parse(path.read_text())
    except OSError as error:
        reason = reason_of(error)
        raise InvalidInput(f"{path} is no URL and cannot be read as a nodes.env: {reason}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is no URL and no nodes.env") from error
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error.message}") from error
    return [f"https://{bracketed(node.public)}:{cluster.http_port}" for node in cluster.nodes]
