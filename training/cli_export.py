"""The command that writes model files: export."""

# ruff: noqa: PLC0415 (torch takes seconds to import; --help does not wait for it)

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from training.scenes import Scene
    from training.splits import Split

CHIPS = Path("../shared/data/labels/chips.csv")
WEIGHTS = Path("model/weights/landcover.onnx")


def register(app: typer.Typer) -> None:
    """Adds the command to `python -m training`."""
    app.command()(export)


def export(
    *,
    run: Annotated[Path, typer.Option(help="folder of the run: its checkpoint is exported")] = Path(
        "runs/default"
    ),
    checkpoint: Annotated[str, typer.Option(help="best or last")] = "best",
    out: Annotated[
        Path | None,
        typer.Option(help="the model file to write; with --weights, names the 8-bit one"),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="begin from this model file instead of a run")
    ] = None,
    chips: Annotated[
        Path, typer.Option(help="labeled chips: parity and 8 bits are checked on their imagery")
    ] = CHIPS,
    preset: Annotated[
        str, typer.Option(help="whose split says what may be used for 8 bits; default: the model's")
    ] = "",
    int8: Annotated[
        bool, typer.Option("--int8", help="write <name>.int8.onnx beside it, too")
    ] = False,
    esri: Annotated[
        Path | None, typer.Option(help="folder for <name>.emd and its raster function (ArcGIS)")
    ] = None,
) -> None:
    """Write the model file and its card once both answer alike; also in 8 bits, for ArcGIS."""
    from model.session import Session
    from training.int8 import SUFFIX, quantize

    model = weights or out or WEIGHTS
    if weights is None:
        from training.export import export as write

        card = write(run / f"{checkpoint}.pt", model, _scenes(chips))
        typer.echo(f"{model}: {card.training.steps} steps, sha256 {card.sha256}")
    if int8:
        split = _split(preset or Session.load(model).card.training.preset, chips)
        full = out or model
        small = full.with_name(full.stem + SUFFIX)
        card, found = quantize(model, split.train, split.validation, small, typer.echo)
        typer.echo(f"{small}: {100 * found.agreement:.2f} % as in 32 bits, sha256 {card.sha256}")
    if esri is not None:
        from training.esri import write_esri

        files = write_esri(model, esri)
        typer.echo(f"{files.emd}, {files.function.name}, {files.model.name}")


def _scenes(chips: Path) -> tuple[Scene, ...]:
    from training.scenes import read_chips

    if chips.is_file():
        return tuple(read_chips(chips))
    typer.echo(f"no chips at {chips}: parity is checked on made imagery only")
    return ()


def _split(preset: str, chips: Path) -> Split:
    from training.config import load_preset
    from training.int8 import calibration_split

    return calibration_split(load_preset(preset), chips)
