"""What a client takes home: one file of an area, in the form asked for."""

from __future__ import annotations

import json
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.area.change import change_csv, change_statistics, count_change
from app.area.frame import OutputGrid
from app.area.item import stac_item
from app.area.plan import Plan
from app.area.polygons import AVAILABLE, write_polygons
from app.area.raster import raster_table, write_raster
from app.area.statistics import statistics, statistics_csv, when_of
from app.area.tally import AreaTotals, Progress, count, silent
from app.landcover.blocks import LandCover, Selection
from app.render.geotiff import MEDIA_TYPE
from app.render.qgis import sidecars_of
from model.card import Assessment

FORMATS = {"tif": MEDIA_TYPE, "zip": "application/zip", **AVAILABLE}
"""Forms of a download and their media types."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is to be delivered: one selection's classes, or two selections' transitions."""

    plan: Plan
    frame: OutputGrid
    selections: tuple[Selection, ...]
    assessment: Assessment | None = None

    @property
    def stem(self) -> str:
        """The name of its files."""
        years = "-".join(when_of(each).replace("/", "_") for each in self.selections)
        return f"{'landcover' if len(self.selections) == 1 else 'change'}-{years}"


async def deliver(
    landcover: LandCover, wish: ExportRequest, suffix: str, progress: Progress = silent
) -> bytes:
    """The content of a `tif`, `gpkg`, `geojson`, `fgb` or `zip` (raster, sidecar, STAC item, CSV).

    For areas that fit a request; errors as `write_raster`.
    """
    with tempfile.TemporaryDirectory(prefix="landcover-", ignore_cleanup_errors=True) as folder:
        raster = Path(folder) / f"{wish.stem}.tif"
        await write_raster(landcover, wish.selections, wish.frame, raster, progress)
        if suffix == "tif":
            return await landcover.reads.run(raster.read_bytes)
        table, _ = raster_table([s.session.card.legend for s in wish.selections])
        target = raster.with_suffix(f".{suffix}")
        if suffix != "zip":
            await landcover.reads.run(write_polygons, raster, table, target)
            return await landcover.reads.run(target.read_bytes)
        tally, document = await figures(landcover, wish)
        return await landcover.reads.run(_bundle, wish, raster, tally, csv_of(wish, document))


async def figures(landcover: LandCover, wish: ExportRequest) -> tuple[AreaTotals, dict[str, Any]]:
    """The areas of a wish, and as the document of POST /statistics or POST /change."""
    area = wish.plan.area
    if len(wish.selections) == 2:
        before, after = wish.selections
        tally = await count_change(landcover, before, after, wish.plan)
        return tally, change_statistics(before, after, area.square_meters, tally)
    (selection,) = wish.selections
    tally = await count(landcover, selection, wish.plan)
    return tally, statistics(selection, area.square_meters, tally, wish.assessment)


def csv_of(wish: ExportRequest, document: dict[str, Any]) -> str:
    """The figures as CSV."""
    if len(wish.selections) == 2:
        return change_csv(document)
    area = wish.plan.area
    return statistics_csv([(area.id if area.id is not None else "", document)])


def item_of(wish: ExportRequest, raster: Path, tally: AreaTotals) -> dict[str, Any]:
    """The STAC item of a wish's raster."""
    selection = wish.selections[-1]
    table, _ = raster_table([s.session.card.legend for s in wish.selections])
    return stac_item(
        wish.plan.area,
        raster,
        table,
        selection.session.metadata,
        tally.scenes,
        wish.stem,
        selection.source.attribution,
    )


def _bundle(wish: ExportRequest, raster: Path, tally: AreaTotals, text: str) -> bytes:
    """A zip of everything, the raster stored as it is: it is compressed already."""
    item = item_of(wish, raster, tally)
    target = raster.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.write(raster, raster.name, zipfile.ZIP_STORED)
        bundle.write(f"{raster}.aux.xml", f"{raster.name}.aux.xml")
        for path in sidecars_of(raster):
            bundle.write(path, path.name)
        bundle.writestr(f"{wish.stem}.json", json.dumps(item, indent=1))
        bundle.writestr(f"{wish.stem}.csv", text)
    return target.read_bytes()
