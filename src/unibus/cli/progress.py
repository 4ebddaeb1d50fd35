"""Progress on standard error where that is a terminal, else nothing. Never on standard output, which is for results."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from unibus.cli.output import printable


@contextmanager
def stages() -> Iterator[Callable[[str, int, int | None], None]]:
    """One bar that is told what is being done, how far it is, and of how much where that is known."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    shown = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*shown, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, of: bar.update(task, description=printable(what), completed=done, total=of)
