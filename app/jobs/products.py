"""What a job delivers, made from its blocks: the same figures and files as POST /statistics,
/change and /feature.* give for the same area."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.area.delivery import ExportRequest, csv_of, figures, item_of
from app.area.polygons import MEDIA_TYPES, write_polygons
from app.area.raster import raster_table, write_raster
from app.area.statistics import assessment_of
from app.jobs.plan import Work
from app.landcover.blocks import LandCover
from app.render.geotiff import MEDIA_TYPE
from app.scheduling import background

_FROM_RASTER = ("cog", "polygons", "item")


async def write(
    landcover: LandCover, work: Work, outputs: Sequence[str], folder: Path
) -> dict[str, Any]:
    """Writes the files of `outputs` into `folder`; results by name: {"file", "type"} or {"value"}.

    SourceUnavailable, or OSError when a file cannot be written.
    """
    assessment = assessment_of(work.selections[0].session.card, None)
    wish = ExportRequest(work.plan, work.frame, work.selections, assessment)
    raster = folder / f"{wish.stem}.tif"
    results: dict[str, Any] = {}
    with background():
        if any(name in outputs for name in _FROM_RASTER):
            await write_raster(landcover, wish.selections, wish.frame, raster)
        if "cog" in outputs:
            results["cog"] = {"file": raster.name, "type": MEDIA_TYPE}
        if "polygons" in outputs:
            table, _ = raster_table([each.session.card.legend for each in wish.selections])
            path = raster.with_suffix(".gpkg")
            await landcover.reads.run(write_polygons, raster, table, path)
            results["polygons"] = {"file": path.name, "type": MEDIA_TYPES["gpkg"]}
        if set(outputs) <= {"cog", "polygons"}:
            return results
        tally, document = await figures(landcover, wish)
        for name in ("statistics", "matrix"):
            if name in outputs:
                results[name] = {"value": document}
        if "csv" in outputs:
            path = raster.with_suffix(".csv")
            path.write_text(csv_of(wish, document), newline="")
            results["csv"] = {"file": path.name, "type": "text/csv"}
        if "item" in outputs:
            path = raster.with_suffix(".json")
            item = await landcover.reads.run(item_of, wish, raster, tally)
            path.write_text(json.dumps(item, indent=1))
            results["item"] = {"file": path.name, "type": "application/geo+json"}
    return results
