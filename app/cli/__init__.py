"""The `landcover` command. One file for each group of commands."""

from __future__ import annotations

import typer

from app.cli.areas import change, purge, seed, stats
from app.cli.classify import classify, merge
from app.cli.doctor import doctor, index
from app.cli.serve import demo, serve, settings

cli = typer.Typer(
    help="1 m land cover of any place NAIP aerial imagery covers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    serve, classify, stats, change, seed, purge, merge, index, doctor, demo, settings
)  # fmt: skip
for command in COMMANDS:
    cli.command()(command)


def main() -> None:
    """Entry point."""
    cli()
