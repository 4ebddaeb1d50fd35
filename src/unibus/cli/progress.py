"""Progress on standard error where that is a terminal, else nothing. Never on standard output, which is for results."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from unibus.cli.output import printable


@contextmanager
def stages() -> Iterator[Callable[[str, int, int | None], None]]:
    """One bar that is told what is being done, how far it is, and of how much where that is known."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    shown = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*shown, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, of: int | None) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(printable(what), total=of)
            for known, task in tasks.items():
                bar.update(task, visible=known == what)
            bar.update(tasks[what], completed=done)

        yield show
