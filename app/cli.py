"""The `landcover` command: serve, classify, doctor, demo."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import uvicorn
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from app import area
from app.demo import write_county
from app.errors import ConfigurationError, LandcoverError
from app.landcover import Selection
from app.main import create_app
from app.services import Services
from app.settings import Settings, settings_page

cli = typer.Typer(
    help="1 m land cover of any place NAIP aerial imagery covers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True)

Imagery = Annotated[Path | None, typer.Option(help="directory of NAIP GeoTIFFs")]
Model = Annotated[Path | None, typer.Option(help="the .onnx model file; the shipped one")]
CacheDir = Annotated[Path | None, typer.Option(help="directory of the disk cache; none: memory")]
Host = Annotated[str | None, typer.Option(help="address to listen on; 127.0.0.1")]
Port = Annotated[int | None, typer.Option(help="port to listen on; 8000")]
Workers = Annotated[int | None, typer.Option(help="inference threads; every available core")]


@cli.command()
def serve(
    imagery: Imagery = None,
    model: Model = None,
    cache_dir: CacheDir = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
) -> None:
    """Serve tiles and the map. Every other setting: LANDCOVER_* in the environment."""
    settings = _settings(
        imagery=imagery,
        model=model,
        cache_dir=cache_dir,
        host=host,
        port=port,
        infer_workers=workers,
    )
    _run(settings)


@cli.command()
def classify(
    scene: Annotated[Path, typer.Argument(help="a NAIP GeoTIFF")],
    output: Annotated[Path, typer.Argument(help="the class GeoTIFF to write")],
    model: Model = None,
    workers: Workers = None,
) -> None:
    """Classify a whole scene into a Cloud Optimized GeoTIFF of classes."""
    if not scene.is_file():
        _fail(f"{scene}: no such file")
    services = _services(_settings(imagery=scene, model=model, infer_workers=workers))
    try:
        asyncio.run(_classify(services, output))
    except (LandcoverError, OSError) as error:
        _fail(str(error))
    finally:
        services.close()
    out.print(f"Wrote {escape(str(output))}")


@cli.command()
def doctor(imagery: Imagery = None, model: Model = None) -> None:
    """Check the model and every file of the imagery; name what is not served, and why."""
    services = _services(_settings(imagery=imagery, model=model))
    session = services.model(None)
    out.print(f"model   {session.card.name} {session.card.version}  sha256 {session.sha256[:12]}…")
    problems = 0
    for source in services.sources:
        index = source.catalog.index
        years = ", ".join(map(str, source.years)) or "unknown"
        out.print(
            f"source  {source.id}: {len(index.scenes)} scenes, years {years}, "
            f"CRS {', '.join(index.crs_list)}"
        )
        if index.problems:
            table = Table(title=f"{len(index.problems)} files skipped")
            table.add_column("file", overflow="fold")
            table.add_column("not served: it …", overflow="fold")
            for problem in index.problems:
                table.add_row(escape(problem.path), escape(problem.reason))
            out.print(table)
        problems += len(index.problems)
    services.close()
    out.print("Everything is served." if not problems else "The rest is served.")


@cli.command()
def demo(
    directory: Annotated[Path, typer.Option(help="where Demo County is kept")] = Path(
        "demo-county"
    ),
    write_only: Annotated[
        Path | None, typer.Option(help="write Demo County there and do not serve it")
    ] = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Write Demo County, synthetic imagery of a place that is not, and serve its map."""
    target = write_only or directory
    write_county(target, progress=lambda text: err.print(f"[dim]{escape(text)}"))
    if write_only:
        out.print(f"Wrote Demo County to {escape(str(target))}")
        return
    settings = _settings(
        imagery=target,
        title="Demo County",
        attribution="Demo County: synthetic imagery, CC0",
        host=host,
        port=port,
    )
    _run(settings)


@cli.command()
def settings() -> None:
    """Print every setting as a Markdown page (docs/settings.md)."""
    typer.echo(settings_page(), nl=False)


class _Server(uvicorn.Server):
    """Says where the map is as soon as it answers."""

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            host = self.config.host if self.config.host != "0.0.0.0" else "localhost"  # noqa: S104
            root = self.config.root_path.rstrip("/")
            out.print(f"\nThe map is at [bold]http://{host}:{port}{root}/map[/]   (Ctrl+C ends it)")


def _run(settings: Settings) -> None:
    services = _services(settings)
    for source in services.sources:
        index = source.catalog.index
        skipped = f", {len(index.problems)} files skipped (see doctor)" if index.problems else ""
        err.print(f"[dim]{escape(source.title)}: {len(index.scenes)} scenes{skipped}")
    config = uvicorn.Config(
        create_app(settings, services),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        timeout_graceful_shutdown=10,
        server_header=False,
    )
    server = _Server(config)
    server.run()
    if not server.started:
        sys.exit(3)


async def _classify(services: Services, output: Path) -> None:
    source = services.sources.get(None)
    scene = source.catalog.index.scenes[0]
    (grid,) = source.grids()
    extent = scene.extent(grid)
    if extent is None:
        raise ConfigurationError(f"{scene.id} is smaller than one pixel of {grid.resolution} m")
    selection = Selection(source, None, services.model(None))
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(f"{escape(scene.id)}: blocks")
        await area.write_window(
            services.landcover,
            selection,
            grid,
            extent,
            output,
            lambda done, total: bar.update(task, completed=done, total=total),
        )


def _settings(**given: Any) -> Settings:  # noqa: ANN401 - pydantic checks every value
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "LANDCOVER_" + "_".join(map(str, first["loc"])).upper()
        _fail(f"{name}={first.get('input')!r}: {first['msg']}")
    except SettingsError as error:
        _fail(f"LANDCOVER_*: {error}; a list is written as JSON")


def _services(settings: Settings) -> Services:
    try:
        return Services(settings)
    except ConfigurationError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    err.print(f"[red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(2)


def main() -> None:
    """Entry point."""
    cli()
