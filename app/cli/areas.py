"""Commands about an area: stats, change, seed; and purge, which empties what they filled."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from app.cli import terminal
from app.cli.options import CacheDir, Imagery, Model, Workers, settings_of
from app.cli.work import Area, Datetime, Fill, Here, Server, SourceId, Year, run_area, write_json

_CACHE_FILES = re.compile(r"[0-9a-f]{2}|(index|engines)-.*\.json|\.locks")
_JOBS_FILES = re.compile(r"[0-9a-f]{32}|[0-9a-f-]{36}|jobs\.sqlite.*")


def stats(
    aoi: Area,
    imagery: Imagery = None,
    source: SourceId = None,
    year: Year = "latest",
    datetime: Datetime = "",
    fill: Fill = "",
    server: Server = None,
    output: Annotated[Path | None, typer.Option(help="JSON file to write")] = None,
    model: Model = None,
    cache_dir: CacheDir = None,
    workers: Workers = None,
) -> None:
    """Print the ground area of every class in an area."""
    here = Here(imagery, model, cache_dir, workers)
    dates = {"year": year, "datetime": datetime, "fill": fill}
    results = run_area(
        "classify-area", aoi, dates, ("statistics",), source, server, here, documents=[output]
    )
    document = results["statistics"]
    table = Table("class", "hectares", "%")
    for each in document["classes"]:
        table.add_row(escape(each["title"]), f"{each['hectares']:.2f}", f"{each['percent']:.1f}")
    terminal.out.print(table)
    write_json(output, document)


def change(
    aoi: Area,
    output: Annotated[Path, typer.Argument(help="GeoTIFF to write, from · 10 + to")],
    before: Annotated[str, typer.Option("--from", help="the earlier year")],
    after: Annotated[str, typer.Option("--to", help="the later year")],
    imagery: Imagery = None,
    source: SourceId = None,
    server: Server = None,
    matrix: Annotated[Path | None, typer.Option(help="JSON file of the matrix, hectares")] = None,
    model: Model = None,
    cache_dir: CacheDir = None,
    workers: Workers = None,
) -> None:
    """Write what changed between two years, and print the matrix of classes in hectares."""
    here, dates = Here(imagery, model, cache_dir, workers), {"from": before, "to": after}
    outputs = ("cog", "matrix")
    document = run_area(
        "change", aoi, dates, outputs, source, server, here, output, documents=[matrix]
    )["matrix"]
    names = [each["name"] for each in document["classes"]]
    table = Table("from \\ to", *names)
    for name, row in zip(names, document["matrix_hectares"], strict=True):
        table.add_row(name, *(f"{value:.2f}" for value in row))
    terminal.out.print(table)
    terminal.out.print(f"Wrote {escape(str(output))}")
    write_json(matrix, document)


def seed(
    aoi: Area,
    imagery: Imagery = None,
    source: SourceId = None,
    year: Year = "latest",
    datetime: Datetime = "",
    fill: Fill = "",
    server: Server = None,
    model: Model = None,
    cache_dir: CacheDir = None,
    workers: Workers = None,
) -> None:
    """Classify an area into the cache, so that its tiles are ready."""
    if not server and settings_of(cache_dir=cache_dir).cache_dir is None:
        terminal.fail("seed needs --cache-dir, or --server")
    dates = {"year": year, "datetime": datetime, "fill": fill}
    here = Here(imagery, model, cache_dir, workers)
    run_area("seed", aoi, dates, (), source, server, here)
    terminal.out.print("Seeded.")


def purge(
    cache_dir: CacheDir = None,
    jobs_dir: Annotated[Path | None, typer.Option(help="directory of jobs")] = None,
) -> None:
    """Remove every cached block and index, and the jobs too if --jobs-dir is given. Blocks that
    are no longer used expire by themselves: imagery and model are part of their keys."""
    settings = settings_of(cache_dir=cache_dir, jobs_dir=jobs_dir)
    selected = [path for path in (settings.cache_dir, settings.jobs_dir) if path is not None]
    if not selected:
        terminal.fail("purge needs --cache-dir or --jobs-dir")
    for root in selected:
        if not root.is_dir():
            terminal.fail(f"{root}: no such directory")
        is_jobs = root == settings.jobs_dir
        if is_jobs and not (root / "jobs.sqlite").exists():
            terminal.fail(f"{root}: no jobs.sqlite in it")
        count = 0
        for path in root.iterdir():
            # Only what this service writes: a wrong path must not cost somebody's files.
            names = _JOBS_FILES if is_jobs else _CACHE_FILES
            if not names.fullmatch(path.name):
                continue
            count += 1 if is_jobs else sum(1 for _ in path.glob("*"))
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        terminal.out.print(f"Removed {count} entries of {escape(str(root))}")
