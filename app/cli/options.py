"""Options that several commands share, and the settings they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from app.cli.terminal import fail
from app.errors import ConfigurationError
from app.services import Services
from app.settings import Settings

Imagery = Annotated[Path | None, typer.Option(help="directory of NAIP GeoTIFFs")]
Sources = Annotated[Path | None, typer.Option(help="sources.toml: named sources of every kind")]
Model = Annotated[
    Path | None,
    typer.Option(help="the .onnx model file, or a shipped one's name; default: landcover"),
]
CacheDir = Annotated[Path | None, typer.Option(help="directory of the disk cache; default: none")]
Host = Annotated[str | None, typer.Option(help="address to listen on; default: 127.0.0.1")]
Port = Annotated[int | None, typer.Option(help="port to listen on; default: 8000")]
Workers = Annotated[int | None, typer.Option(help="inference threads; default: all cores")]
Processes = Annotated[
    int | None, typer.Option(help="web processes, sharing the threads; default: 1")
]


def settings_of(**given: Any) -> Settings:  # noqa: ANN401 - pydantic checks every value
    """Return the environment's settings, overridden by those given on the command line."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "LANDCOVER_" + "_".join(map(str, first["loc"])).upper()
        reason = first["msg"].removeprefix("Value error, ")
        fail(f"{name}={first.get('input')!r}: {reason}")
    except SettingsError as error:
        fail(f"LANDCOVER_*: {error}; a list is written as JSON")


def services_of(settings: Settings) -> Services:
    """Return the services that the settings describe."""
    try:
        return Services(settings)
    except ConfigurationError as error:
        fail(str(error))
