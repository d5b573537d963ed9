"""The command that writes model files: export."""

# ruff: noqa: PLC0415 (--help does not wait for torch)

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from training.data.scenes import Scene


def export(
    *,
    run: Annotated[Path, typer.Option(help="folder of the run: its checkpoint is exported")] = Path(
        "runs/default"
    ),
    checkpoint: Annotated[str, typer.Option(help="best or last")] = "best",
    out: Annotated[
        Path | None,
        typer.Option(
            help="the model file to write, by default landcover.onnx in the run; with --weights, "
            "names the 8-bit one"
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="start from this model file instead of a run")
    ] = None,
    chips: Annotated[
        Path | None,
        typer.Option(
            help="labeled chips (a list, or a folder of chips): parity and --int8 are checked on "
            "them"
        ),
    ] = None,
    split: Annotated[
        Path | None, typer.Option(help="split of a folder of chips (split.json), for --int8")
    ] = None,
    attribution: Annotated[
        str, typer.Option(help="source of imagery and labels; default: the run's")
    ] = "",
    average_with: Annotated[
        Path | None,
        typer.Option(help="write the mean of the run's weights and those of this file, its start"),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="preset whose split --int8 uses; default: the model's")
    ] = "",
    int8: Annotated[
        bool, typer.Option("--int8", help="write <name>.int8.onnx beside it, too")
    ] = False,
    esri: Annotated[
        Path | None,
        typer.Option(help="folder for <name>.emd, its raster function and <name>.dlpk (ArcGIS)"),
    ] = None,
    deepness: Annotated[
        Path | None, typer.Option(help="model file to write for the QGIS plugin Deepness")
    ] = None,
    stac: Annotated[
        Path | None, typer.Option(help="STAC item of the model to write (.json, MLM extension)")
    ] = None,
) -> None:
    """Write the model file and its card after checking it against torch; also 8-bit, GIS, STAC."""
    from model.session import Session

    if int8 and chips is None:
        raise typer.BadParameter("--int8 needs labeled chips: give --chips")
    model = weights or out or run / "landcover.onnx"
    if weights is None:
        from training.export.onnx_export import export as write

        state = run / f"{checkpoint}.pt"
        card = write(state, model, _scenes(chips, run), attribution, average_with)
        typer.echo(f"{model}: {card.training.steps} steps, sha256 {card.sha256}")
    if int8 and chips is not None:
        from training.config import load_preset
        from training.data.custom_dataset import read_custom
        from training.export.int8 import SUFFIX, calibration_split, quantize

        card = Session.load(model).card
        if chips.is_dir():
            own = read_custom(chips, split)
            train, validation = own.train, own.validation.get("real", ())
        else:
            settings = load_preset(preset or card.training.preset)
            kind = {"legend": card.legend, "bands": card.bands}
            apart = calibration_split(settings.model_copy(update=kind), chips)
            train, validation = apart.train, apart.validation
        full = out or model
        small = full.with_name(full.stem + SUFFIX)
        card, result = quantize(model, train, validation, small, typer.echo)
        typer.echo(f"{small}: {100 * result.agreement:.2f} % as in 32 bits, sha256 {card.sha256}")
    if esri is not None:
        from training.export.esri import write_esri

        files = write_esri(model, esri)
        names = (files.function.name, files.model.name, files.package.name)
        typer.echo(", ".join((str(files.emd), *names)))
    if deepness is not None:
        from training.export.deepness import write_deepness

        tile = write_deepness(model, deepness)
        typer.echo(f"{deepness}: tiles of {tile} x {tile} px")

    if stac is not None:
        from training.data.files import write_json
        from training.export.stac import item_of

        write_json(stac, item_of(model))
        typer.echo(str(stac))


def _scenes(chips: Path | None, run: Path) -> tuple[Scene, ...]:
    """Return labeled chips that fit the run."""
    from training.data.custom_dataset import read_custom
    from training.data.scenes import read_chips
    from training.fit.loop import preset_of

    if chips is not None and chips.is_dir():
        return read_custom(chips).train
    if chips is not None:
        preset = preset_of(run)
        return tuple(read_chips(chips, legend=preset.legend, bands=len(preset.bands)))
    typer.echo("no --chips: parity is checked on synthetic imagery only")
    return ()
