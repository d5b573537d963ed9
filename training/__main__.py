"""`python -m training {fit,export,evaluate,…}`: from labeled imagery to a model file.

Each command does one thing and can be run again; files pass between them.
"""

# ruff: noqa: PLC0415 (torch takes seconds to import; --help does not wait for it)

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from training import cli_assess, cli_crossval, cli_data, cli_export

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

Chips = Annotated[Path, typer.Option(help="folder of chips, or a list of labeled chips (.csv)")]
County = Annotated[
    Path | None, typer.Option(help="folder of Demo County; without it only chips are used")
]
Run = Annotated[Path, typer.Option(help="folder of the run: checkpoints and facts")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads")]

CHIPS = Path("../shared/data/labels/chips.csv")


@app.command()
def fit(
    *,
    preset: Annotated[str, typer.Option(help="a name in training/presets, or a .toml")] = "default",
    chips: Chips = CHIPS,
    county: County = None,
    city: Annotated[
        Path | None, typer.Option(help="folder of Demo City, beside the county")
    ] = None,
    run: Run = Path("runs/default"),
    steps: Annotated[int | None, typer.Option(min=1, help="length of the run")] = None,
    split: Annotated[
        Path | None, typer.Option(help="split of a folder of chips (split.json)")
    ] = None,
    fold: Annotated[str | None, typer.Option(help="a fold of the split")] = None,
    begin: Annotated[
        Path | None, typer.Option(help="checkpoint of another run whose weights to begin from")
    ] = None,
    other_years: Annotated[
        Path | None, typer.Option(help="images of the chips' ground in other years")
    ] = None,
    stop_after: Annotated[int, typer.Option(min=0, help="steps of this sitting; 0: all")] = 0,
    threads: Threads = 2,
) -> None:
    """Train, or go on with the run in the folder."""
    import torch

    from training.checkpoint import Checkpoint
    from training.config import load_preset
    from training.data import read_data
    from training.fit import fit as train
    from training.own import read_own
    from training.progress import bar

    torch.set_num_threads(threads)
    chosen = load_preset(preset, steps=steps)
    first = Checkpoint.load(begin) if begin else None
    if chips.is_dir():
        if other_years is not None:
            raise typer.BadParameter("--other-years goes with a list of chips, not with a folder")
        data = read_own(chips, split, fold, county=county, preset=chosen)
    elif split is not None or fold is not None:
        raise typer.BadParameter("--split and --fold go with a folder of chips")
    else:
        data = read_data(chosen, chips, county, other_years, city)
    with bar("fit") as shown:
        best = train(
            chosen, data, run, begin=first, stop_after=stop_after, say=shown.say, to=shown.to
        )
    typer.echo(f"best checkpoint: {best}")


cli_export.register(app)
cli_assess.register(app)
cli_crossval.register(app)
cli_data.register(app)


def main() -> None:
    """Entry point of `landcover-train`: known errors are one line, not a traceback."""
    from pydantic import ValidationError

    from model.errors import ModelError
    from training.errors import TrainingError

    try:
        app()
    except ModuleNotFoundError as error:
        if error.name not in {"torch", "onnx", "h5py", "pyogrio"}:
            raise
        typer.echo(f"error: training needs {error.name}: make setup TRAIN=1", err=True)
        sys.exit(1)
    except (TrainingError, ModelError, ValidationError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
