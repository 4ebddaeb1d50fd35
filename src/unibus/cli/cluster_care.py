"""`unibus cluster scale|remove`: change a running cluster itself, as an admin, at any of its nodes."""

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import examples, printable


@click.command(
    "scale", short_help="keep everything on more nodes", epilog=examples("unibus cluster scale --replicas 3")
)
@click.option("--replicas", type=click.Choice(["1", "3", "5"]), required=True, help="on how many nodes")
@pass_shared
def scale(shared: Shared, replicas: str) -> None:
    """Keep records, messages and blobs on so many nodes, while all goes on. For admins.

    It is never lowered. unibus posture shows when all nodes have caught up.
    """

    async def work() -> None:
        async with shared.bus() as bus:
            await bus.api.keep_on(int(replicas))

    run(work())
    shared.tell({"replicas": int(replicas)}, f"everything is kept on {replicas} nodes, or is being copied there")


@click.command("remove", short_help="give up a node that is gone for good", epilog=examples("unibus cluster remove n3"))
@click.argument("node")
@pass_shared
def remove(shared: Shared, node: str) -> None:
    """Have the cluster go on without NODE, which has ended for good. For admins.

    Until then the others wait for it to come back. A node that is still there is refused.
    """

    async def work() -> None:
        async with shared.bus() as bus:
            await bus.api.give_up(node)

    run(work())
    shared.tell({"removed": node}, f"the cluster goes on without {printable(node)}")
