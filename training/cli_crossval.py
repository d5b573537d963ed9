"""The command that cross-validates a recipe: crossval."""

# ruff: noqa: PLC0415 (torch takes seconds to import; --help does not wait for it)

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

CHIPS = Path("../shared/data/labels/chips.csv")


def register(app: typer.Typer) -> None:
    """Adds the command to `python -m training`."""
    app.command()(crossval)


def crossval(
    *,
    preset: Annotated[str, typer.Option(help="a name in training/presets, or a .toml")] = "default",
    chips: Annotated[Path, typer.Option(help="list of labeled chips (chips.csv)")] = CHIPS,
    run: Annotated[Path, typer.Option(help="folder of the folds")] = Path("runs/crossval"),
    ground_folds: Annotated[
        int, typer.Option(min=0, help="folds over the ground of every place; 0: leave a place out")
    ] = 0,
    begin: Annotated[
        Path | None,
        typer.Option(help="checkpoint (of Demo County), or folder of former folds, to go on from"),
    ] = None,
    other_years: Annotated[
        Path | None, typer.Option(help="images of the chips' ground in other years")
    ] = None,
    county: Annotated[
        Path | None, typer.Option(help="folder of Demo County, to learn from beside the chips")
    ] = None,
    city: Annotated[
        Path | None, typer.Option(help="folder of Demo City, beside the county")
    ] = None,
    shared_preset: Annotated[
        str,
        typer.Option(help="preset of a run that half of the folds begin from; none: no such run"),
    ] = "",
    shared_steps: Annotated[int | None, typer.Option(min=1, help="length of that run")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="length of each run")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 2,
) -> None:
    """Judge a recipe on places (or ground) it never learned from; `accuracy` pools the results."""
    import torch

    from training.config import load_preset
    from training.crossval import crossvalidate

    torch.set_num_threads(threads)
    paths = crossvalidate(
        load_preset(preset, steps=steps),
        chips,
        run,
        ground_folds=ground_folds,
        shared=load_preset(shared_preset, steps=shared_steps) if shared_preset else None,
        begin=begin,
        other_years=other_years,
        county=county,
        city=city,
        command="python -m training " + shlex.join(sys.argv[1:]),
        threads=threads,
    )
    typer.echo(" ".join(map(str, paths)))
