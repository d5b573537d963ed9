"""What the area commands share: the area, the work here or on a server, files kept from harm."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx2 as httpx
import typer
from rich.markup import escape

from app.area.vector_files import read_area_file
from app.cli import terminal
from app.cli.options import services_of, settings_of
from app.client import Client, JobFailed, ServerError
from app.errors import LandcoverError
from app.jobs.files import Folder
from app.jobs.job import Process, spec_of
from app.jobs.local import LocalRunner, shard_of
from app.render.qgis import sidecars_of
from app.services import Services

_AREA = "file of the area: GeoJSON in degrees, GeoPackage, Shapefile, KML …"

Area = Annotated[Path, typer.Argument(help=_AREA)]
Aoi = Annotated[Path | None, typer.Option(help=_AREA)]
SourceId = Annotated[str | None, typer.Option(help="id of a source; default: the first one")]
Year = Annotated[str, typer.Option(help="`latest`, or a year of four digits")]
Datetime = Annotated[str, typer.Option(help="instead of a year: days, `2018-01-01/2020-12-31`")]
Fill = Annotated[str, typer.Option(help="`older`: fill gaps of these dates from older imagery")]
Server = Annotated[str | None, typer.Option(help="URL of a running server that does the work")]
Scheduler = Annotated[str | None, typer.Option(help="Dask scheduler, tcp://host:port")]


@contextmanager
def report_errors() -> Iterator[None]:
    """End the command with one line for an expected error."""
    try:
        yield
    except (LandcoverError, OSError, ServerError, JobFailed) as error:
        terminal.fail(str(error))
    except httpx.HTTPError as error:
        terminal.fail(f"the server does not answer: {error}")


def refuse_overwrite(outputs: Iterable[Path | None], inputs: Iterable[Path | None]) -> None:
    """End the command when a file to be written is one that is read, under whatever spelling or
    link, or is written twice."""
    written: list[Path] = []
    for output in filter(None, outputs):
        for other in filter(None, inputs):
            if _is_same_file(output, other):
                terminal.fail(f"{output} is the input {other}: choose another output")
        if any(_is_same_file(output, other) for other in written):
            terminal.fail(f"{output} would be written twice: choose another output")
        written.append(output)


def refuse_scenes(outputs: Iterable[Path | None], services: Services) -> None:
    """End the command when a file to be written is an image of a source."""
    existing = [output for output in outputs if output and output.resolve().exists()]
    if existing:
        scenes = (scene for source in services.sources for scene in source.catalog.scenes)
        refuse_overwrite(existing, [Path(s.href) for s in scenes if "://" not in s.href])


def raster_files(output: Path | None) -> list[Path]:
    """Return the files that writing a raster makes."""
    return [output, Path(f"{output}.aux.xml"), *sidecars_of(output)] if output else []


@contextmanager
def local_runner(services: Services) -> Iterator[LocalRunner]:
    """Yield what computes here, closed at the end; end the command with one line for an error."""
    with report_errors(), closing(LocalRunner(services)) as local:
        yield local


@dataclass(frozen=True, slots=True)
class Here:
    """Options of a command that computes in this process."""

    imagery: Path | None = None
    model: Path | None = None
    cache_dir: Path | None = None
    infer_workers: int | None = None
    scheduler: str | None = None

    def services(self) -> Services:
        """Return the services that the options and the environment describe."""
        return services_of(settings_of(**asdict(self)))


def run_area(
    process: Process,
    aoi: Path,
    dates: dict[str, str],
    outputs: Sequence[str],
    source: str | None,
    server: str | None,
    here: Here,
    output: Path | None = None,
    shard: str | None = None,
    documents: Sequence[Path | None] = (),
) -> dict[str, Any]:
    """Run a process for the area in a file, here or on a server; return its documents by name.

    `dates`: the inputs of the process that name them; `output`: the raster, or with `shard` the
    folder of blocks; `documents`: other files that the command is going to write.
    """
    written = [*([] if shard else raster_files(output)), *documents]
    refuse_overwrite(written, [aoi, here.model])
    with report_errors():
        area = read_area_file(aoi)
    if server:
        inputs = {name: value for name, value in {**dates, "source": source}.items() if value}
        return _run_there(server, process, area, inputs, outputs, output)
    services = here.services()
    refuse_scenes(written, services)
    years = [dates[name] for name in ("year", "from", "to") if name in dates]
    with local_runner(services) as local:
        moments = dates.get("datetime", ""), dates.get("fill", "")
        spec = spec_of(services, process, area, source, None, years, outputs, *moments)
        part = shard_of(shard) if shard else (0, 1)
        with (
            tempfile.TemporaryDirectory(prefix="landcover-") as scratch,
            terminal.progress_bar() as bar,
        ):
            folder = Folder(output if shard and output else Path(scratch))
            if shard:
                folder.write_spec(spec)
            task = bar.add_task(f"{escape(aoi.name)}: blocks")
            local.compute(
                spec,
                folder,
                part,
                lambda n, total: bar.update(task, completed=n, total=total),
            )
            return {} if shard or process == "seed" else local.write(spec, folder, output)


def write_json(path: Path | None, document: dict[str, Any]) -> None:
    """Write a document, if there is a path for it."""
    if path:
        path.write_text(json.dumps(document, indent=2))
        terminal.out.print(f"Wrote {escape(str(path))}")


def _run_there(
    server: str,
    process: Process,
    area: dict[str, Any],
    inputs: dict[str, str],
    outputs: Sequence[str],
    output: Path | None,
) -> dict[str, Any]:
    with report_errors(), Client(server) as client, terminal.progress_bar() as bar:
        job = client.submit(process, area, tuple(outputs), **inputs)
        task = bar.add_task(f"job {job[:8]}: blocks")
        client.wait(
            job,
            lambda info: bar.update(
                task, completed=info["blocks"]["done"], total=info["blocks"]["total"]
            ),
        )
        results = client.results(job)
        if output:
            client.download(job, output)
        return results


def _is_same_file(one: Path, other: Path) -> bool:
    one, other = one.resolve(), other.resolve()
    return one == other or (one.exists() and other.exists() and one.samefile(other))
