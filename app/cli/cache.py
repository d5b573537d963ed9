"""Commands about a cache directory: cache verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.cache.verify import check_entries
from app.cli import terminal

cache = typer.Typer(no_args_is_help=True, help="Check a cache directory.")


@cache.callback()
def _cache() -> None:
    """Check a cache directory."""


@cache.command()
def verify(
    directory: Annotated[Path, typer.Argument(help="the directory given as --cache-dir")],
    delete: Annotated[bool, typer.Option("--delete", help="remove the damaged entries")] = False,
) -> None:
    """Read every cached block, compare it with its digest and name the damaged ones. Exits with
    status 1 when there are any. A server may be using the directory."""
    if not directory.is_dir():
        terminal.fail(f"{directory}: no such directory")
    count = nbytes = damaged = kept = 0
    for entry in check_entries(directory):
        count += 1
        nbytes += entry.nbytes
        if entry.damage is None:
            continue
        damaged += 1
        outcome = _delete(entry.path) if delete else ""
        kept += outcome != "; deleted"
        # One line each, so that scripts can read them.
        typer.echo(f"{entry.path}: {entry.damage}{outcome}")
    shown = f"{count} entries, {nbytes / 1e6:.1f} MB: {damaged} damaged"
    if damaged:
        shown += f", {damaged - kept} deleted" if delete else "; --delete removes them"
    terminal.err.print(escape(shown), highlight=False, soft_wrap=True)
    if damaged:
        raise typer.Exit(1)


def _delete(path: Path) -> str:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return f"; cannot be deleted: {error.strerror}"
    return "; deleted"
