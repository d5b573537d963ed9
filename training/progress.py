"""Progress of a command: log lines, and a bar on a terminal."""

from __future__ import annotations

import time
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


LINE_EVERY_S = 30.0
"""Seconds between the lines that stand for the bar where there is no terminal."""


@dataclass
class Bar:
    """A progress bar on a terminal; elsewhere log lines, and a line on the pace now and then.
    `steps`: what the work is counted in; 0: in percent only.
    """

    shown: Progress
    task: TaskID
    title: str
    steps: int = 0
    clock: Callable[[], float] = time.monotonic
    _began: tuple[float, float] | None = None
    _logged: float = 0.0

    def update(self, share: float) -> None:
        """Show the share of the work done, 0..1."""
        self.shown.update(self.task, completed=share)
        now = self.clock()
        if self._began is None:
            self._began, self._logged = (now, share), now
        elif (
            not self.shown.console.is_terminal and share < 1 and now - self._logged >= LINE_EVERY_S
        ):
            self._logged = now
            self.log(self._pace(now, share))

    def _pace(self, now: float, share: float) -> str:
        """Return how far the work is, how fast it goes and how long it will take, in words."""
        since, at = self._began or (now, share)
        pace = (share - at) / max(now - since, 1e-9)
        left = f", {duration((1 - share) / pace)} left" if pace > 0 else ""
        if not self.steps:
            return f"{self.title}: {100 * share:.0f} %{left}"
        done = f"step {round(share * self.steps):,} of {self.steps:,}"
        return f"{self.title}: {done}, {pace * self.steps:.2f} steps/s{left}"

    def log(self, line: str) -> None:
        """Print a line above the bar."""
        if self.shown.console.is_terminal:
            self.shown.console.print(line, markup=False, highlight=False)
        else:
            print_line(line)


def duration(seconds: float) -> str:
    """Return a time in words: `40 s`, `12 min`, `3 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


@contextmanager
def progress_bar(title: str, steps: int = 0) -> Iterator[Bar]:
    """Show a bar while the block runs; `steps`: what its work is counted in."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as shown:
        yield Bar(shown, shown.add_task(title, total=1.0), title, steps)
