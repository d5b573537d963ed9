"""Progress of a command: log lines, and a bar on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

Log = Callable[[str], None]

OnProgress = Callable[[float], None]
"""Called with the share of the work done, 0..1."""


def print_line(line: str) -> None:
    """Print a line at once, also into a file that is being watched."""
    print(line, flush=True)


@dataclass(frozen=True)
class Bar:
    """A progress bar on a terminal; elsewhere only its log lines."""

    shown: Progress
    task: TaskID

    def update(self, share: float) -> None:
        """Show the share of the work done, 0..1."""
        self.shown.update(self.task, completed=share)

    def log(self, line: str) -> None:
        """Print a line above the bar."""
        if self.shown.console.is_terminal:
            self.shown.console.print(line, markup=False, highlight=False)
        else:
            print_line(line)


@contextmanager
def progress_bar(title: str) -> Iterator[Bar]:
    """Show a bar while the block runs."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as shown:
        yield Bar(shown, shown.add_task(title, total=1.0))
