"""Commands that write land cover to files: classify."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.area import raster
from app.cli import terminal
from app.cli.options import Model, Workers, services_of, settings_of
from app.errors import ConfigurationError, LandcoverError
from app.imagery.when import LATEST
from app.landcover import Selection
from app.services import Services


def classify(
    scene: Annotated[Path, typer.Argument(help="a NAIP GeoTIFF")],
    output: Annotated[Path, typer.Argument(help="the class GeoTIFF to write")],
    model: Model = None,
    workers: Workers = None,
) -> None:
    """Classify a whole scene into a Cloud Optimized GeoTIFF of classes."""
    if not scene.is_file():
        terminal.fail(f"{scene}: no such file")
    services = services_of(settings_of(imagery=scene, model=model, infer_workers=workers))
    try:
        asyncio.run(_classify(services, output))
    except (LandcoverError, OSError) as error:
        terminal.fail(str(error))
    finally:
        services.close()
    terminal.out.print(f"Wrote {escape(str(output))}")


async def _classify(services: Services, output: Path) -> None:
    source = services.sources.get(None)
    scene = source.catalog.scenes[0]
    (grid,) = source.grids()
    extent = scene.extent(grid)
    if extent is None:
        raise ConfigurationError(f"{scene.id} is smaller than one pixel of {grid.resolution} m")
    selection = Selection(source, LATEST, services.model(None))
    with terminal.progress_bar() as bar:
        task = bar.add_task(f"{escape(scene.id)}: blocks")
        await raster.write_window(
            services.landcover,
            selection,
            grid,
            extent,
            output,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
