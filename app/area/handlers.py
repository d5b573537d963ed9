"""Statistics, change, files and estimates of areas: what routes, jobs and notebooks call.

Each takes a `LandCover`, what it shows (`Selection`) and the areas, and returns a document or a
file. Nothing here knows HTTP.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from shapely.geometry import mapping

from app.area import plan as planning
from app.area.documents import (
    assessment_of,
    change_csv,
    change_document,
    statistics_csv,
    statistics_document,
)
from app.area.geojson import Areas
from app.area.item import stac_item
from app.area.plan import Estimate, Plan
from app.area.polygon import AreaOfInterest
from app.area.raster import OutputGrid, raster_table, write_raster
from app.area.totals import AreaTotals, Progress, silent, sum_area
from app.area.vector_files import AVAILABLE, write_polygons
from app.errors import InvalidRequest, TooLarge, UnknownName
from app.landcover.blocks import LandCover, Selection
from app.render.geotiff import MEDIA_TYPE
from model.card import Assessment
from model.windows import BLOCK

FORMATS = {"tif": MEDIA_TYPE, "zip": "application/zip", **AVAILABLE}
"""Forms of a download and their media types."""

_PIXELS_PER_BLOCK = 4 * BLOCK * BLOCK
"""Pixels a file may have for every block that its area may need."""

_JOBS = "POST /processes/classify-area/execution takes areas of any size as a job"

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is to be written: one selection's classes, or two selections' transitions."""

    plan: Plan
    output: OutputGrid
    selections: tuple[Selection, ...]
    assessment: Assessment | None = None

    @property
    def stem(self) -> str:
        """Return the name of its files."""
        dates = "-".join(each.when.text.replace("/", "_") for each in self.selections)
        return f"{'landcover' if len(self.selections) == 1 else 'change'}-{dates}"


@dataclass(frozen=True, slots=True)
class File:
    """A file to hand out; `crs`: `EPSG:<code>` of its raster."""

    name: str
    media_type: str
    content: bytes
    crs: str


async def statistics(
    landcover: LandCover,
    selection: Selection,
    areas: Areas,
    *,
    assessment: str | None = None,
    max_blocks: int | None = None,
) -> Document:
    """Return the areas as GeoJSON, each with the ground area per class in
    `properties.statistics`; a collection has `totals` too.

    In a notebook (in a script, `asyncio.run(...)` in place of `await`):

        services = Services(Settings(imagery="naip"))
        await statistics(services.landcover, services.select(), areas_of(geojson))

    TooLarge above `max_blocks`, UnknownName for another assessment, InvalidArea for swapped axes,
    SourceUnavailable or Busy as `LandCover.block`.
    """
    table = assessment_of(selection.session.card, assessment)
    plans = await _plans(landcover, [selection], areas, max_blocks)
    totals = [await sum_area(landcover, [selection], plan) for plan in plans]
    features = [
        _feature(plan.area, statistics_document(selection, plan.area.square_meters, each, table))
        for plan, each in zip(plans, totals, strict=True)
    ]
    if not areas.collection:
        return features[0] | _notes(areas)
    together = AreaTotals()
    for each in totals:
        together.merge(each)
    area_m2 = sum(plan.area.square_meters for plan in plans)
    return {
        "type": "FeatureCollection",
        "features": features,
        "totals": statistics_document(selection, area_m2, together, table),
        **_notes(areas),
    }


def statistics_table(document: Document) -> str:
    """Return what `statistics` answered as CSV; a feature without an id has its number."""
    features = document.get("features", [document])
    return statistics_csv(
        (each.get("id", number), each["properties"]["statistics"])
        for number, each in enumerate(features)
    )


async def change(
    landcover: LandCover,
    before: Selection,
    after: Selection,
    areas: Areas,
    *,
    max_blocks: int | None = None,
) -> Document:
    """Return hectares by class before and after in one area; errors as `statistics`, and
    InvalidRequest for more areas than one."""
    _only(areas)
    (plan,) = await _plans(landcover, [before, after], areas, max_blocks)
    totals = await sum_area(landcover, [before, after], plan)
    return change_document(before, after, plan.area.square_meters, totals) | _notes(areas)


async def export(
    landcover: LandCover,
    selections: Sequence[Selection],
    areas: Areas,
    format: str = "tif",
    *,
    crs: str | None = None,
    resolution: float | None = None,
    clipped: bool = True,
    assessment: str | None = None,
    max_blocks: int | None = None,
) -> File:
    """Return one area as a `tif`, `gpkg`, `geojson`, `fgb` or `zip` (raster, class names, STAC
    item, CSV): one selection's classes, or the transitions between two.

    `clipped`: pixels outside the polygon are nodata; else all of the rectangle around it. Errors as
    `statistics` and `OutputGrid.of`; UnknownName for another format.
    """
    check_format(format)
    _only(areas)
    (plan,) = await _plans(landcover, selections, areas, max_blocks)
    grids = selections[0].source.grids()
    output = OutputGrid.of(plan.area, grids, crs, resolution, clipped=clipped)
    if max_blocks is not None and output.pixels > max_blocks * _PIXELS_PER_BLOCK:
        limit = max_blocks * _PIXELS_PER_BLOCK
        raise TooLarge("the number of pixels of the file", output.pixels, limit, hint=_JOBS)
    table = assessment_of(selections[0].session.card, assessment)
    request = ExportRequest(plan, output, tuple(selections), table)
    outputs = {"tif": ("cog",), "zip": ("cog", "csv", "item")}.get(format, ("polygons",))
    with tempfile.TemporaryDirectory(prefix="landcover-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        await write_outputs(landcover, request, outputs, folder, polygons=format)
        read = _zipped if format == "zip" else _content
        content = await landcover.reads.run(read, folder, f"{request.stem}.{format}")
    return File(f"{request.stem}.{format}", FORMATS[format], content, output.grid.crs)


async def estimate(landcover: LandCover, selections: Sequence[Selection], areas: Areas) -> Estimate:
    """Return what the areas would take: blocks, those cached, seconds, bytes of the raster."""
    plans = await _plans(landcover, selections, areas)
    return await planning.estimate(landcover, selections, plans)


async def write_outputs(
    landcover: LandCover,
    request: ExportRequest,
    outputs: Collection[str],
    folder: Path,
    polygons: str = "gpkg",
    progress: Progress = silent,
) -> dict[str, Path | Document]:
    """Write the files of `outputs` (cog, polygons, csv, item) into `folder` and return them by
    name; `statistics` and `matrix` are documents.

    `polygons`: the suffix of class polygons. SourceUnavailable or Busy as `LandCover.block`;
    OSError when a file cannot be written.
    """
    raster = folder / f"{request.stem}.tif"
    results: dict[str, Path | Document] = {}
    if not {"cog", "polygons", "item"}.isdisjoint(outputs):
        await write_raster(landcover, request.selections, request.output, raster, progress)
    if "cog" in outputs:
        results["cog"] = raster
    if "polygons" in outputs:
        table, _ = raster_table([each.session.card.legend for each in request.selections])
        results["polygons"] = path = raster.with_suffix(f".{polygons}")
        await landcover.reads.run(write_polygons, raster, table, path)
    if set(outputs) <= {"cog", "polygons"}:
        return results
    totals = await sum_area(landcover, request.selections, request.plan)
    document, table_text = _figures(request, totals)
    results |= {name: document for name in ("statistics", "matrix") if name in outputs}
    if "csv" in outputs:
        results["csv"] = path = raster.with_suffix(".csv")
        path.write_text(table_text, newline="")
    if "item" in outputs:
        results["item"] = path = raster.with_suffix(".json")
        item = await landcover.reads.run(_item, request, raster, totals)
        path.write_text(json.dumps(item, indent=1))
    return results


def check_format(format: str) -> None:
    """Raise UnknownName for a form that files do not have."""
    if format not in FORMATS:
        raise UnknownName("format", format, FORMATS)


async def _plans(
    landcover: LandCover,
    selections: Sequence[Selection],
    areas: Areas,
    max_blocks: int | None = None,
) -> list[Plan]:
    """Return the plan of every area; TooLarge, with the estimate, above `max_blocks` together."""
    source = selections[0].source
    for selection, area in product(selections, areas.areas):
        for box in area.boxes:
            await landcover.load(selection, box)
    grids, bounds = source.grids(), source.bounds

    def plan() -> tuple[list[Plan], int]:
        plans = [Plan.of(area, grids, bounds) for area in areas.areas]
        return plans, sum(each.count() for each in plans) if max_blocks is not None else 0

    plans, blocks = await landcover.reads.run(plan)
    blocks *= len(selections)
    if max_blocks is not None and blocks > max_blocks:
        cost = await planning.estimate(landcover, selections, plans)
        raise TooLarge("the number of blocks", blocks, max_blocks, cost.document(), _JOBS)
    return plans


def _figures(request: ExportRequest, totals: AreaTotals) -> tuple[Document, str]:
    """Return the areas as the document of `statistics` or `change`, and as CSV."""
    area = request.plan.area
    if len(request.selections) == 2:
        document = change_document(*request.selections, area.square_meters, totals)
        return document, change_csv(document)
    (selection,) = request.selections
    document = statistics_document(selection, area.square_meters, totals, request.assessment)
    return document, statistics_csv([(area.id if area.id is not None else "", document)])


def _item(request: ExportRequest, raster: Path, totals: AreaTotals) -> Document:
    selection = request.selections[-1]
    table, _ = raster_table([each.session.card.legend for each in request.selections])
    metadata, attribution = selection.session.metadata, selection.source.attribution
    return stac_item(
        request.plan.area, raster, table, metadata, totals.scenes, request.stem, attribution
    )


def _zipped(folder: Path, name: str) -> bytes:
    """Return a zip of all files of a folder, rasters stored: they are compressed already."""
    order = [".tif", ".xml", ".json", ".csv", ".qml", ".clr"]
    files = sorted(folder.iterdir(), key=lambda path: order.index(path.suffix))
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in files:
            kind = zipfile.ZIP_STORED if path.suffix == ".tif" else zipfile.ZIP_DEFLATED
            bundle.write(path, path.name, kind)
    return _content(folder, name)


def _content(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()


def _only(areas: Areas) -> None:
    if len(areas.areas) != 1:
        raise InvalidRequest("features", len(areas.areas), "one Feature")


def _feature(area: AreaOfInterest, document: Document) -> Document:
    feature: Document = {"type": "Feature"}
    if area.id is not None:
        feature["id"] = area.id
    feature["geometry"] = mapping(area.geometry)
    feature["properties"] = {**(area.properties or {}), "statistics": document}
    return feature


def _notes(areas: Areas) -> Document:
    return {"notes": list(areas.notes)} if areas.notes else {}
