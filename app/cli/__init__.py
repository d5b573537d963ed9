"""The `landcover` command. One file for each group of commands."""

from __future__ import annotations

import typer

from app.cli.areas import change, purge, seed, stats
from app.cli.classify import classify, merge
from app.cli.serve import demo, doctor, serve, settings

cli = typer.Typer(
    help="1 m land cover of any place NAIP aerial imagery covers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (serve, classify, stats, change, seed, purge, merge, doctor, demo, settings):
    cli.command()(command)


def main() -> None:
    """Entry point."""
    cli()
