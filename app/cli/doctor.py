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
from app.imagery.diagnostics import Checkup, Finding, check_image, examine, findings_of
from app.landcover.source import Source
from app.settings import Settings


def doctor(
    imagery: Imagery = None,
    sources: Sources = None,
    model: Model = None,
    cache_dir: CacheDir = None,
) -> None:
    """Check the model and every source: its files, one read, and whether its imagery looks like
    what the model was trained on. Exits with status 1 when a source cannot be read."""
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
            checkup = examine(source.catalog, source.store, session.metadata, services.reader)
            _report(checkup)
            faults += len(checkup.faults)
            image = next((each for each in source.catalog.scenes if each.store), None)
            # A local STAC catalog may have its images beside it: nothing to sign or to fetch.
            if source.store is not None and image is not None:
                findings = check_image(source.store.access, image, source.store.reach)
                faults += _report_findings(source.id, findings)
        faults += _check_services(services.settings, session.card.ground_resolution)
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
    """Inspect every file of the sources and keep the result, so that the server starts at once.

    Files that are known and have not changed are not opened again.
    """
    settings = settings_of(imagery=imagery, sources=sources, model=model, cache_dir=cache_dir)
    if settings.cache_dir is None:
        terminal.fail("an index is kept in the cache directory: give --cache-dir")
    began = time.perf_counter()
    with terminal.err.status("Inspecting every file …"):
        services = services_of(settings)
    try:
        for source in services.sources:
            _list(source)
    finally:
        services.close()
    terminal.out.print(
        f"Kept in {escape(str(settings.cache_dir))}, after {time.perf_counter() - began:.1f} s"
    )


def _check_services(settings: Settings, ground_resolution: float) -> int:
    """Check every STAC API, its token service and its storage; return how many checks failed."""
    configs = sources_file.load(settings.sources) if settings.sources else ()
    return sum(
        _report_findings(config.id, findings_of(config, ground_resolution)) for config in configs
    )


def _report_findings(source_id: str, findings: Iterable[Finding]) -> int:
    """Print the findings; return how many of them failed."""
    failed = 0
    for finding in findings:
        mark = "ok" if finding.ok else "FAILED"
        advice = "" if finding.ok else f": {finding.advice}"
        text = f"  {mark}  {source_id}  {finding.what}: {finding.detail}{advice}"
        terminal.out.print(escape(text), highlight=False, soft_wrap=True)
        failed += not finding.ok
    return failed


def _list(source: Source) -> int:
    """Print what a source holds; return how many files are skipped."""
    catalog, out = source.catalog, terminal.out
    years = ", ".join(map(str, source.years)) or "unknown"
    out.print(
        f"source  {source.id}: {len(catalog.scenes)} scenes, years {years}, "
        f"CRS {', '.join(grid.crs for grid in source.grids())}"
    )
    if catalog.skipped:
        table = Table(title=f"{len(catalog.skipped)} files skipped")
        table.add_column("file", overflow="fold")
        table.add_column("not served: it …", overflow="fold")
        for each in catalog.skipped:
            table.add_row(escape(each.path), escape(each.reason))
        out.print(table)
    return len(catalog.skipped)


def _report(checkup: Checkup) -> None:
    out = terminal.out
    if checkup.scene:
        cost = (
            f", {checkup.requests} requests, {checkup.nbytes / 1e6:.2f} MB"
            if checkup.requests
            else ""
        )
        out.print(f"  read  {escape(checkup.scene)}: {checkup.read_s * 1000:.0f} ms{cost}")
    if checkup.bands:
        table = Table("band", "mean", "2 %–98 %", "in training", "off by")
        for band in checkup.bands:
            spread = f"{band.low:.0f}–{band.high:.0f}"
            off = f"{band.off:+.1f} σ"
            table.add_row(band.name, f"{band.mean:.0f}", spread, f"{band.trained:.0f}", off)
        out.print(table)
    for warning in checkup.warnings:
        out.print(f"  [yellow]look:[/] {escape(warning)}.", soft_wrap=True)
    for fault in checkup.faults:
        out.print(f"  [red]fault:[/] {escape(fault)}.", soft_wrap=True)
