"""The `landcover` command. One file for each group of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from app import __version__
from app.cli.areas import change, purge, seed, stats
from app.cli.cache import cache
from app.cli.classify import classify, merge
from app.cli.doctor import doctor, index
from app.cli.serve import demo, serve, settings

cli = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
COMMANDS = (
    serve, classify, stats, change, seed, purge, merge, index, doctor, demo, settings
)  # fmt: skip
for command in COMMANDS:
    cli.command()(command)
cli.add_typer(cache, name="cache")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"landcover {__version__}")
        raise typer.Exit


@cli.callback()
def _landcover(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """1 m land cover of any place NAIP aerial imagery covers."""


def main() -> None:
    """Run the command: the entry point."""
    cli()
