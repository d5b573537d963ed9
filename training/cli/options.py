"""Options that several commands share."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

import model

WEIGHTS = Path(model.__file__).parent / "weights" / "landcover.onnx"
"""The shipped model."""

Weights = Annotated[Path, typer.Option(help="model file (.onnx)")]
Chips = Annotated[Path, typer.Option(help="list of labeled chips (chips.csv)")]
County = Annotated[Path | None, typer.Option(help="folder of Demo County, to train on as well")]
City = Annotated[Path | None, typer.Option(help="folder of Demo City, beside the county")]
OtherYears = Annotated[Path | None, typer.Option(help="images of the chips' ground in other years")]
InitFrom = Annotated[
    Path | None,
    typer.Option("--init-from", "--begin", help="checkpoint or model file (.onnx) to start from"),
]
PresetName = Annotated[
    str, typer.Option(help="a name in training/config/presets, or the path of a .toml")
]
Steps = Annotated[int | None, typer.Option(min=1, help="length of the run")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads")]
FitThreads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads; default: as many as are fastest")
]
DeviceName = Annotated[
    str, typer.Option("--device", help="auto (a GPU where there is one), cpu or cuda")
]


LegendFile = Annotated[
    Path | None,
    typer.Option("--legend", help="classes of one's own: a .toml with [legend], such as a run's"),
]
BandNames = Annotated[
    str, typer.Option("--bands", help="names of the first bands of every image, comma-separated")
]
NAIP_BANDS = "red,green,blue,nir"


def command_line() -> str:
    """Return the command as it was typed, for the record in a result."""
    return "python -m training " + shlex.join(sys.argv[1:])
