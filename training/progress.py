"""How a run tells what it does: one line at a time."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]


def echo(line: str) -> None:
    """Prints at once, also into a file: a run is watched while it goes on."""
    print(line, flush=True)
