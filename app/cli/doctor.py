"""Commands about the imagery: doctor, index."""

from __future__ import annotations

import time
from collections.abc import Iterable

import typer
from rich.markup import escape
from rich.table import Table

from app.cli import terminal
from app.cli.options import CacheDir, Imagery, Model, Sources, services_of, settings_of
from app.imagery import config as sources_file
from app.imagery import stac_check
from app.imagery.diagnostics import Checkup, examine
from app.imagery.stac_check import Finding
from app.landcover.source import Source
from app.settings import Settings


def doctor(
    imagery: Imagery = None,
    sources: Sources = None,
    model: Model = None,
    cache_dir: CacheDir = None,
) -> None:
    """Check the model and every source: its files, one read, and whether its imagery looks like
    what the model was trained on. Ends with 1 when a source cannot be read."""
    services = services_of(
        settings_of(imagery=imagery, sources=sources, model=model, cache_dir=cache_dir)
    )
    session = services.model(None)
    out = terminal.out
    out.print(f"model   {session.card.name} {session.card.version}  sha256 {session.sha256[:12]}…")
    out.print(f"engine  {session.engine.spec}")
    skipped = faults = 0
    try:
        for source in services.sources:
            skipped += _list(source)
            found = examine(source.catalog, source.remote, session.metadata)
            _report(found)
            faults += len(found.faults)
            if source.remote is not None and source.catalog.scenes:
                image = source.catalog.scenes[0]
                faults += _say(source.id, stac_check.check_image(source.remote.access, image))
        faults += _asked(services.settings, session.card.ground_resolution)
    finally:
        services.close()
    if faults:
        out.print("Not every source can be read: see above.")
        raise typer.Exit(1)
    out.print("Everything is served." if not skipped else "The rest is served.")


def index(
    imagery: Imagery = None,
    sources: Sources = None,
    model: Model = None,
    cache_dir: CacheDir = None,
) -> None:
    """Look at every file of the sources and keep what is found, so that the server starts at once.

    Files that are known and have not changed are not opened again.
    """
    settings = settings_of(imagery=imagery, sources=sources, model=model, cache_dir=cache_dir)
    if settings.cache_dir is None:
        terminal.fail("an index is kept in the cache directory: give --cache-dir")
    began = time.perf_counter()
    with terminal.err.status("Looking at every file …"):
        services = services_of(settings)
    try:
        for source in services.sources:
            _list(source)
    finally:
        services.close()
    terminal.out.print(
        f"Kept in {escape(str(settings.cache_dir))}, after {time.perf_counter() - began:.1f} s"
    )


def _asked(settings: Settings, ground_resolution: float) -> int:
    """Asks every STAC API, its token service and its storage; how much is not well."""
    configs = sources_file.load(settings.sources) if settings.sources else ()
    return sum(
        _say(config.id, stac_check.findings_of(config, ground_resolution)) for config in configs
    )


def _say(source_id: str, findings: Iterable[Finding]) -> int:
    """Prints what was found; how much of it is not well."""
    wrong = 0
    for finding in findings:
        mark = "ok" if finding.well else "NOT WELL"
        advice = "" if finding.well else f": {finding.advice}"
        text = f"  {mark}  {source_id}  {finding.what}: {finding.detail}{advice}"
        terminal.out.print(escape(text), highlight=False, soft_wrap=True)
        wrong += not finding.well
    return wrong


def _list(source: Source) -> int:
    """Prints what a source holds; how many files are skipped."""
    catalog, out = source.catalog, terminal.out
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
    return len(catalog.problems)


def _report(found: Checkup) -> None:
    out = terminal.out
    if found.scene:
        cost = f", {found.requests} requests, {found.nbytes / 1e6:.2f} MB" if found.requests else ""
        out.print(f"  read  {escape(found.scene)}: {found.read_s * 1000:.0f} ms{cost}")
    if found.bands:
        table = Table("band", "mean", "2 %–98 %", "in training", "off by")
        for band in found.bands:
            spread = f"{band.low:.0f}–{band.high:.0f}"
            off = f"{band.off:+.1f} σ"
            table.add_row(band.name, f"{band.mean:.0f}", spread, f"{band.trained:.0f}", off)
        out.print(table)
    for doubt in found.doubts:
        out.print(f"  [yellow]look:[/] {escape(doubt)}.", soft_wrap=True)
    for fault in found.faults:
        out.print(f"  [red]fault:[/] {escape(fault)}.", soft_wrap=True)
