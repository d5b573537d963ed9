"""Commands around the server: serve, demo, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.cli import server, terminal
from app.cli.options import (
    CacheDir,
    Host,
    Imagery,
    Model,
    Port,
    Processes,
    Sources,
    Workers,
    services_of,
    settings_of,
)
from app.demo import write_county
from app.settings import Settings, settings_page, unknown_settings


def serve(
    imagery: Imagery = None,
    sources: Sources = None,
    model: Model = None,
    cache_dir: CacheDir = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    processes: Processes = None,
) -> None:
    """Serve tiles and the map. Other settings are LANDCOVER_* environment variables."""
    settings = settings_of(
        imagery=imagery,
        sources=sources,
        model=model,
        cache_dir=cache_dir,
        host=host,
        port=port,
        infer_workers=workers,
        processes=processes,
    )
    _run(settings)


def demo(
    directory: Annotated[Path, typer.Option(help="directory of Demo County")] = Path("demo-county"),
    write_only: Annotated[
        Path | None, typer.Option(help="write Demo County to this directory and exit")
    ] = None,
    write_city: Annotated[
        Path | None,
        typer.Option(help="moved: landcover-train demo-city DIR", hidden=True),
    ] = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Write Demo County, synthetic imagery of a fictional county, and serve its map."""

    def progress(text: str) -> None:
        terminal.err.print(f"[dim]{escape(text)}")

    if write_city:
        raise typer.BadParameter(f"--write-city has moved: landcover-train demo-city {write_city}")
    target = write_only or directory
    write_county(target, progress=progress)
    if write_only:
        terminal.out.print(f"Wrote Demo County to {escape(str(target))}")
        return
    settings = settings_of(
        imagery=target,
        title="Demo County (synthetic)",
        attribution="Demo County: synthetic imagery, CC0",
        host=host,
        port=port,
    )
    _run(settings)


def settings() -> None:
    """Print every setting as a Markdown page (docs/settings.md)."""
    typer.echo(settings_page(), nl=False)


def _run(settings: Settings) -> None:
    server.check_address(settings.host, settings.port)
    for line in unknown_settings():
        terminal.err.print(f"[yellow]warning:[/] {escape(line)}", highlight=False, soft_wrap=True)
    if settings.processes > 1:
        server.run(settings, None)
        return
    services = services_of(settings)
    for source in services.sources:
        count = len(source.catalog.skipped)
        skipped = f", {count} files skipped (see doctor)" if count else ""
        shown = f"{source.title}: {len(source.catalog.scenes)} scenes{skipped}"
        terminal.err.print(f"[dim]{escape(shown)}")
    server.run(settings, services)
