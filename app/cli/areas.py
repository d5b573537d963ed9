"""Commands about an area: stats, change, seed, purge; and what they share with classify."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx2 as httpx
import typer
from rich.markup import escape
from rich.table import Table

from app.cli import terminal
from app.cli.options import CacheDir, Imagery, Model, Workers, services_of, settings_of
from app.client import Client, JobFailed, ServerError
from app.errors import LandcoverError
from app.jobs.cluster import Cluster
from app.jobs.folder import Folder
from app.jobs.job import Process
from app.jobs.local import Local
from app.jobs.resolve import spec_of

_CACHE_FILES = re.compile(r"[0-9a-f]{2}|(index|engines)-.*\.json|\.locks")
_JOBS_FILES = re.compile(r"[0-9a-f-]{36}|jobs\.sqlite.*")

Aoi = Annotated[Path | None, typer.Option(help="GeoJSON file of the area, degrees")]
Area = Annotated[Path, typer.Argument(help="GeoJSON file of the area, degrees")]
SourceId = Annotated[str | None, typer.Option(help="id of a source; the first one")]
Year = Annotated[str, typer.Option(help="`latest`, or a year of four digits")]
Server = Annotated[str | None, typer.Option(help="address of a running server that does the work")]
_OUTPUTS: dict[Process, tuple[str, ...]] = {
    "classify-area": ("statistics",),
    "change": ("cog", "matrix"),
    "seed": (),
}
Scheduler = Annotated[str | None, typer.Option(help="Dask scheduler, tcp://host:port")]


def stats(
    aoi: Area,
    imagery: Imagery = None,
    source: SourceId = None,
    year: Year = "latest",
    server: Server = None,
    output: Annotated[Path | None, typer.Option(help="JSON file to write")] = None,
    model: Model = None,
    cache_dir: CacheDir = None,
    workers: Workers = None,
) -> None:
    """Print the ground area of every class in an area."""
    inputs = {"year": year}
    found = _figures(
        "classify-area", aoi, imagery, source, inputs, server, None, model, cache_dir, workers
    )["statistics"]
    table = Table("class", "hectares", "%")
    for each in found["classes"]:
        table.add_row(escape(each["title"]), f"{each['hectares']:.2f}", f"{each['percent']:.1f}")
    terminal.out.print(table)
    _write_json(output, found)


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
    """Write what changed between two years, and the matrix of classes in hectares."""
    inputs = {"from": before, "to": after}
    found = _figures(
        "change", aoi, imagery, source, inputs, server, output, model, cache_dir, workers
    )["matrix"]
    names = [each["name"] for each in found["classes"]]
    table = Table("from \\ to", *names)
    for name, row in zip(names, found["matrix_hectares"], strict=True):
        table.add_row(name, *(f"{value:.2f}" for value in row))
    terminal.out.print(table)
    terminal.out.print(f"Wrote {escape(str(output))}")
    _write_json(matrix, found)


def seed(
    aoi: Area,
    imagery: Imagery = None,
    source: SourceId = None,
    year: Year = "latest",
    server: Server = None,
    model: Model = None,
    cache_dir: CacheDir = None,
    workers: Workers = None,
) -> None:
    """Fill the cache of an area, so that its tiles are ready."""
    if not server and settings_of(cache_dir=cache_dir).cache_dir is None:
        terminal.fail("seed needs --cache-dir, or --server")
    inputs = {"year": year}
    _figures("seed", aoi, imagery, source, inputs, server, None, model, cache_dir, workers)
    terminal.out.print("Seeded.")


def purge(
    cache_dir: CacheDir = None,
    jobs_dir: Annotated[Path | None, typer.Option(help="directory of jobs")] = None,
) -> None:
    """Remove every cached block and index, and the jobs too where --jobs-dir is given. Blocks that
    nobody needs any more go by themselves: imagery and model are part of their keys."""
    settings = settings_of(cache_dir=cache_dir, jobs_dir=jobs_dir)
    chosen = [path for path in (settings.cache_dir, settings.jobs_dir) if path is not None]
    if not chosen:
        terminal.fail("purge needs --cache-dir or --jobs-dir")
    for root in chosen:
        if not root.is_dir():
            terminal.fail(f"{root}: no such directory")
        is_jobs = root == settings.jobs_dir
        if is_jobs and not (root / "jobs.sqlite").exists():
            terminal.fail(f"{root}: no journal of jobs in it")
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


def asked(path: Path) -> dict[str, Any]:
    """The GeoJSON in a file."""
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        terminal.fail(f"{path}: {error.strerror}")
    except (ValueError, RecursionError) as error:
        terminal.fail(f"{path}: not JSON: {error}")
    if not isinstance(found, dict):
        terminal.fail(f"{path}: not GeoJSON")
    return found


@contextmanager
def said() -> Iterator[None]:
    """Errors as one line."""
    try:
        yield
    except (LandcoverError, OSError, ServerError, JobFailed) as error:
        terminal.fail(str(error))
    except httpx.HTTPError as error:
        terminal.fail(f"the server does not answer: {error}")


@contextmanager
def local_of(
    imagery: Path | None,
    model: Path | None,
    cache_dir: Path | None,
    workers: int | None,
    scheduler: str | None,
) -> Iterator[Local]:
    """What computes here, closed at the end."""
    settings = settings_of(
        imagery=imagery,
        model=model,
        cache_dir=cache_dir,
        infer_workers=workers,
        scheduler=scheduler,
    )
    cluster = Cluster(settings.scheduler) if settings.scheduler else None
    with Local(services_of(settings), cluster, 2 * cluster.threads if cluster else None) as local:
        yield local


def remote(
    server: str,
    process: Process,
    area: dict[str, Any],
    inputs: dict[str, str],
    outputs: tuple[str, ...],
    output: Path | None,
) -> dict[str, Any]:
    """Has a server do it, with a progress bar; the results, the raster in `output`."""
    with said(), Client(server) as client, terminal.progress_bar() as bar:
        job = client.submit(process, area, outputs, **inputs)
        task = bar.add_task(f"job {job[:8]}: blocks")
        client.wait(
            job,
            lambda info: bar.update(
                task, completed=info["blocks"]["done"], total=info["blocks"]["total"]
            ),
        )
        found = client.results(job)
        if output:
            client.download(job, output)
        return found


def _figures(
    process: Process,
    aoi: Path,
    imagery: Path | None,
    source: str | None,
    inputs: dict[str, str],
    server: str | None,
    output: Path | None,
    model: Path | None,
    cache_dir: Path | None,
    workers: int | None,
) -> dict[str, Any]:
    geojson, outputs = asked(aoi), _OUTPUTS[process]
    if server:
        given = {**inputs, **({"source": source} if source else {})}
        return remote(server, process, geojson, given, outputs, output)
    with said(), local_of(imagery, model, cache_dir, workers, None) as local:
        spec = spec_of(
            local.workshop.services, process, geojson, source, None, list(inputs.values()), outputs
        )
        with (
            tempfile.TemporaryDirectory(prefix="landcover-") as scratch,
            terminal.progress_bar() as bar,
        ):
            folder = Folder(Path(scratch))
            task = bar.add_task(f"{escape(aoi.name)}: blocks")
            local.compute(
                spec, folder, (0, 1), lambda n, total: bar.update(task, completed=n, total=total)
            )
            return {} if process == "seed" else local.deliver(spec, folder, output)


def _write_json(path: Path | None, document: dict[str, Any]) -> None:
    if path:
        path.write_text(json.dumps(document, indent=2))
        terminal.out.print(f"Wrote {escape(str(path))}")
