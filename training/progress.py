"""How a run tells what it does: one line at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

Say = Callable[[str], None]

Advance = Callable[[float], None]
"""Told the share of the work done, 0..1."""


def echo(line: str) -> None:
    """Prints at once, also into a file: a run is watched while it goes on."""
    print(line, flush=True)


@dataclass(frozen=True)
class Bar:
    """A progress bar on a terminal; elsewhere its lines only."""

    shown: Progress
    task: TaskID

    def to(self, share: float) -> None:
        """Shows the share of the work done, 0..1."""
        self.shown.update(self.task, completed=share)

    def say(self, line: str) -> None:
        """A line above the bar."""
        if self.shown.console.is_terminal:
            self.shown.console.print(line, markup=False, highlight=False)
        else:
            echo(line)


@contextmanager
def bar(title: str) -> Iterator[Bar]:
    """A bar while the block runs."""
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
