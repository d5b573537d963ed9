"""The commands that train: fit, crossval, run."""

# ruff: noqa: PLC0415 (torch takes seconds to import; --help does not wait for it)

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from training.cli.options import (
    Chips,
    City,
    County,
    DeviceName,
    FitThreads,
    InitFrom,
    OtherYears,
    PresetName,
    Steps,
    command_line,
)


def fit(
    *,
    preset: PresetName = "default",
    chips: Annotated[
        Path | None, typer.Option(help="folder of chips, or a list of labeled chips (.csv)")
    ] = None,
    county: County = None,
    city: City = None,
    run: Annotated[Path, typer.Option(help="folder of the run: checkpoints and record")] = Path(
        "runs/default"
    ),
    steps: Steps = None,
    held_out: Annotated[
        list[str] | None, typer.Option(help="place of a list of chips not trained on; repeatable")
    ] = None,
    validation_share: Annotated[
        float | None,
        typer.Option(help="share of a list of chips by which checkpoints are selected"),
    ] = None,
    split: Annotated[
        Path | None, typer.Option(help="split of a folder of chips (split.json)")
    ] = None,
    fold: Annotated[str | None, typer.Option(help="a fold of the split")] = None,
    init_from: InitFrom = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(help="checkpoint or model file (.onnx) to distill from; repeatable"),
    ] = None,
    unlabeled: Annotated[
        Path | None, typer.Option(help="folder of imagery of which the teachers say what it is")
    ] = None,
    other_years: OtherYears = None,
    stop_after: Annotated[
        int, typer.Option(min=0, help="stop after this many steps, to resume later; 0: never")
    ] = 0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="curves for TensorBoard (extra `tensorboard`)")
    ] = False,
    threads: FitThreads = None,
    device: DeviceName = "auto",
) -> None:
    """Train a model, or resume the run in this folder."""
    from training.config import load_preset
    from training.data.custom_dataset import read_custom
    from training.data.dataset import read_data, read_unlabeled
    from training.data.manifest import read_manifest
    from training.fit.compute import request_of
    from training.fit.loop import fit as train
    from training.network.initial import read_initial
    from training.progress import progress_bar

    settings = load_preset(
        preset, steps=steps, held_out=held_out or None, validation_share=validation_share
    )
    initial = read_initial(init_from) if init_from else None
    if chips is not None and chips.is_dir():
        if other_years is not None:
            raise typer.BadParameter("--other-years needs a list of chips, not a folder")
        manifest = read_manifest(chips)
        own = {"legend": manifest.legend, "bands": manifest.bands}
        settings = settings.model_copy(update=own)
        data = read_custom(chips, split, fold, county=county, preset=settings)
    elif split is not None or fold is not None:
        raise typer.BadParameter("--split and --fold need a folder of chips (--chips)")
    else:
        data = read_data(settings, chips, county, other_years, city)
    if unlabeled is not None:
        data = replace(data, unlabeled=read_unlabeled(unlabeled, settings))
    for line in data.share_lines():
        typer.echo(line)
    with progress_bar("fit", settings.steps) as bar:
        best = train(
            settings, data, run, init_from=initial,
            teachers=[read_initial(path) for path in teacher or ()],
            request=request_of(device, threads),
            stop_after=stop_after, tensorboard=tensorboard, log=bar.log, progress=bar.update,
        )  # fmt: skip
    typer.echo(f"best checkpoint: {best}")


def crossval(
    *,
    preset: PresetName = "default",
    chips: Chips,
    run: Annotated[Path, typer.Option(help="folder of the folds")] = Path("runs/crossval"),
    ground_folds: Annotated[
        int, typer.Option(min=0, help="folds over the ground of every place; 0: one per place")
    ] = 0,
    init_from: Annotated[
        Path | None,
        typer.Option(
            "--init-from",
            "--begin",
            help="checkpoint (of Demo County), or folder of a previous cross-validation",
        ),
    ] = None,
    other_years: OtherYears = None,
    county: County = None,
    city: City = None,
    shared_preset: Annotated[
        str, typer.Option(help="preset of a run shared by half of the folds; empty: none")
    ] = "",
    shared_steps: Annotated[int | None, typer.Option(min=1, help="length of that run")] = None,
    steps: Steps = None,
    threads: FitThreads = None,
    device: DeviceName = "auto",
) -> None:
    """Cross-validate a preset on held-out places (or ground); `accuracy` pools the results."""
    from model.cores import available_cores
    from training.config import load_preset
    from training.fit.compute import request_of
    from training.fit.crossval import crossvalidate

    paths = crossvalidate(
        load_preset(preset, steps=steps),
        chips,
        run,
        ground_folds=ground_folds,
        shared=load_preset(shared_preset, steps=shared_steps) if shared_preset else None,
        init_from=init_from,
        other_years=other_years,
        county=county,
        city=city,
        command=command_line(),
        threads=threads or available_cores(),
        request=request_of(device, threads),
    )
    typer.echo(" ".join(map(str, paths)))


def run(
    preset: Annotated[Path, typer.Argument(help="the run as TOML: see docs/training.md")],
    *,
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/own"),
) -> None:
    """Run all steps; finished, unchanged steps are skipped, an interrupted fit is resumed."""
    from training.cli.pipeline import perform
    from training.cli.recipe import load_recipe

    typer.echo(str(perform(load_recipe(preset), out)))
