"""Commands that write land cover to files: classify, merge."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.area import raster
from app.cli import terminal
from app.cli.areas import Aoi, Scheduler, Server, SourceId, Year, asked, local_of, remote, said
from app.cli.options import CacheDir, Imagery, Model, Workers, services_of, settings_of
from app.errors import ConfigurationError, LandcoverError
from app.imagery.catalog.temporal import LATEST
from app.jobs.folder import Folder
from app.jobs.local import read_spec, shard_of, write_spec
from app.jobs.resolve import spec_of
from app.landcover.blocks import Selection
from app.services import Services

INCOMPLETE = 4
"""Exit code of `merge` when blocks are missing."""


def classify(
    paths: Annotated[list[Path], typer.Argument(help="SCENE OUTPUT, or with --aoi OUTPUT")],
    aoi: Aoi = None,
    imagery: Imagery = None,
    source: SourceId = None,
    year: Year = "latest",
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
    geojson, output = asked(aoi), paths[0]
    if server:
        inputs = {"year": year, **({"source": source} if source else {})}
        remote(server, "classify-area", geojson, inputs, ("cog",), output)
    else:
        with said(), local_of(imagery, model, cache_dir, workers, scheduler) as local:
            services = local.workshop.services
            spec = spec_of(services, "classify-area", geojson, source, None, [year], ("cog",))
            part = shard_of(shard) if shard else (0, 1)
            with (
                tempfile.TemporaryDirectory(prefix="landcover-") as scratch,
                terminal.progress_bar() as bar,
            ):
                folder = Folder(output if shard else Path(scratch))
                if shard:
                    write_spec(spec, folder.root)
                task = bar.add_task(f"{escape(aoi.name)}: blocks")
                local.compute(
                    spec, folder, part, lambda n, total: bar.update(task, completed=n, total=total)
                )
                if not shard:
                    local.deliver(spec, folder, output)
    terminal.out.print(f"Wrote {escape(str(output))}")


def merge(
    folder: Annotated[Path, typer.Argument(help="the folder `classify --shard` wrote to")],
    output: Annotated[Path, typer.Argument(help="the class GeoTIFF to write")],
    imagery: Imagery = None,
    model: Model = None,
) -> None:
    """Merge the blocks of all shards into one GeoTIFF; exit code 4 when some are missing."""
    with said(), local_of(imagery, model, None, None, None) as local:
        spec = read_spec(folder)
        missing = local.missing(spec, Folder(folder))
        if missing:
            shown = ", ".join(map(str, missing[:20])) + (", …" if len(missing) > 20 else "")
            terminal.fail(
                f"{len(missing)} blocks are missing: {shown}. Block b is in shard b modulo N; "
                "run those shards again",
                INCOMPLETE,
            )
        local.deliver(spec, Folder(folder), output)
    terminal.out.print(f"Wrote {escape(str(output))}")


def _classify_scene(scene: Path, output: Path, model: Path | None, workers: int | None) -> None:
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
