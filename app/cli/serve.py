"""Commands around the server: serve, demo, doctor, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

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
from app.imagery import sources_file, stac_check
from app.settings import Settings, misspelt, settings_page


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
    """Serve tiles and the map. Every other setting: LANDCOVER_* in the environment."""
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


def doctor(imagery: Imagery = None, sources: Sources = None, model: Model = None) -> None:
    """Check the model and every file of the imagery; name what is not served, and why."""
    services = services_of(settings_of(imagery=imagery, sources=sources, model=model))
    session = services.model(None)
    out = terminal.out
    out.print(f"model   {session.card.name} {session.card.version}  sha256 {session.sha256[:12]}…")
    problems = 0
    for source in services.sources:
        catalog = source.catalog
        years = ", ".join(map(str, source.years)) or "unknown"
        out.print(
            f"source  {source.id}: {len(catalog.scenes)} scenes, years {years}, "
            f"CRS {', '.join(grid.crs for grid in source.grids())}"
        )
        if catalog.problems:
            table = Table(title=f"{len(catalog.problems)} files skipped")
            table.add_column("file", overflow="fold")
            table.add_column("not served: it …", overflow="fold")
            for problem in catalog.problems:
                table.add_row(escape(problem.path), escape(problem.reason))
            out.print(table)
        problems += len(catalog.problems)
    problems += _asked(services.settings, session.card.ground_resolution)
    services.close()
    out.print("Everything is served." if not problems else "The rest is served.")


def _asked(settings: Settings, ground_resolution: float) -> int:
    """Asks every STAC API, its token service and its storage; how much is not well."""
    wrong = 0
    for config in sources_file.load(settings.sources) if settings.sources else ():
        for finding in stac_check.findings_of(config, ground_resolution):
            mark = "ok" if finding.well else "NOT WELL"
            advice = "" if finding.well else f": {finding.advice}"
            text = f"{mark}  {config.id}  {finding.what}: {finding.detail}{advice}"
            terminal.out.print(escape(text), highlight=False, soft_wrap=True)
            wrong += not finding.well
    return wrong


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
    write_county(target, progress=lambda text: terminal.err.print(f"[dim]{escape(text)}"))
    if write_only:
        terminal.out.print(f"Wrote Demo County to {escape(str(target))}")
        return
    settings = settings_of(
        imagery=target,
        title="Demo County",
        attribution="Demo County: synthetic imagery, CC0",
        host=host,
        port=port,
    )
    _run(settings)


def settings() -> None:
    """Print every setting as a Markdown page (docs/settings.md)."""
    typer.echo(settings_page(), nl=False)


def _run(settings: Settings) -> None:
    for line in misspelt():
        terminal.err.print(f"[yellow]warning:[/] {escape(line)}", highlight=False, soft_wrap=True)
    if settings.processes > 1:
        server.run(settings, None)
        return
    services = services_of(settings)
    for source in services.sources:
        count = len(source.catalog.problems)
        skipped = f", {count} files skipped (see doctor)" if count else ""
        shown = f"{source.title}: {len(source.catalog.scenes)} scenes{skipped}"
        terminal.err.print(f"[dim]{escape(shown)}")
    server.run(settings, services)
