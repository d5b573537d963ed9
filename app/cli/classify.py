"""Commands that write land cover to files: classify, merge."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.area import raster
from app.cli import terminal
from app.cli.options import CacheDir, Imagery, Model, Workers
from app.cli.work import (
    Aoi,
    Datetime,
    Fill,
    Here,
    Scheduler,
    Server,
    SourceId,
    Year,
    local_runner,
    raster_files,
    refuse_overwrite,
    refuse_scenes,
    report_errors,
    run_area,
)
from app.errors import ConfigurationError
from app.imagery.catalog.temporal import LATEST
from app.jobs.files import Folder
from app.landcover.blocks import Selection
from app.services import Services

INCOMPLETE = 4
"""Exit status of `merge` when blocks are missing."""


def classify(
    paths: Annotated[list[Path], typer.Argument(help="SCENE OUTPUT, or with --aoi OUTPUT")],
    aoi: Aoi = None,
    imagery: Imagery = None,
    source: SourceId = None,
    year: Year = "latest",
    datetime: Datetime = "",
    fill: Fill = "",
    server: Server = None,
    shard: Annotated[
        str | None,
        typer.Option(help="I/N: compute every N-th block into the folder OUTPUT, for `merge`"),
    ] = None,
    scheduler: Scheduler = None,
    model: Model = None,
    cache_dir: CacheDir = None,
    workers: Workers = None,
) -> None:
    """Classify a scene, or an area of any size, into a Cloud Optimized GeoTIFF of classes."""
    if aoi is None:
        if len(paths) != 2:
            terminal.fail("classify needs SCENE and OUTPUT, or --aoi and OUTPUT")
        _classify_scene(paths[0], paths[1], model, workers)
        return
    if len(paths) != 1:
        terminal.fail("with --aoi, classify needs one path: OUTPUT")
    dates = {"year": year, "datetime": datetime, "fill": fill}
    here = Here(imagery, model, cache_dir, workers, scheduler)
    output = paths[0]
    run_area("classify-area", aoi, dates, ("cog",), source, server, here, output, shard)
    terminal.out.print(f"Wrote {escape(str(output))}")


def merge(
    folder: Annotated[Path, typer.Argument(help="the folder `classify --shard` wrote to")],
    output: Annotated[Path, typer.Argument(help="the class GeoTIFF to write")],
    imagery: Imagery = None,
    model: Model = None,
) -> None:
    """Merge the blocks of all shards into one GeoTIFF; exits with status 4 when some are
    missing."""
    written = raster_files(output)
    refuse_overwrite(written, [folder / "spec.json", model, *folder.glob("blocks/*/*")])
    services = Here(imagery, model).services()
    refuse_scenes(written, services)
    with local_runner(services) as local:
        blocks = Folder(folder)
        spec = blocks.read_spec()
        missing = local.missing(spec, blocks)
        if missing:
            shown = ", ".join(map(str, missing[:20])) + (", …" if len(missing) > 20 else "")
            terminal.fail(
                f"{len(missing)} blocks are missing: {shown}. Block b is in shard b modulo N; "
                "run those shards again",
                INCOMPLETE,
            )
        local.write(spec, blocks, output)
    terminal.out.print(f"Wrote {escape(str(output))}")


def _classify_scene(scene: Path, output: Path, model: Path | None, workers: int | None) -> None:
    if not scene.is_file():
        terminal.fail(f"{scene}: no such file")
    refuse_overwrite(raster_files(output), [scene, model])
    services = Here(scene, model, None, workers).services()
    try:
        with report_errors():
            asyncio.run(_classify(services, output))
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
