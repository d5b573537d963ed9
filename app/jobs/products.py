"""What a job delivers, made from its blocks: rasters, areas, the matrix of change.

A pixel belongs to the area when its centre lies in it. Areas are ground areas: pixels divided by
the projection's areal scale at the middle of their block (Snyder 1987, PROJ `areal_scale`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pyproj import Proj
from rasterio.features import geometry_mask

from app.geotiff import Colours, class_cog
from app.grid import Block, transformer
from app.jobs.plan import Part, Plan
from app.landcover import LandCover, Selection
from app.render import Palette
from model.legend import NODATA, Legend
from model.windows import BLOCK

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
Classes = npt.NDArray[np.uint8]
Tick = Callable[[], None]

_BASE = 10
"""A pixel of a change raster is from · 10 + to."""


async def write(
    landcover: LandCover,
    selections: Sequence[Selection],
    plan: Plan,
    folder: Path,
    tick: Tick = lambda: None,
) -> dict[str, Any]:
    """Writes the rasters into `folder`; results by name: {"file", "type"} or {"value"}.

    One selection gives `cog` and `statistics`, two give `cog` and `matrix`. `tick` is called after
    every block.
    """
    results: dict[str, Any] = {}
    ground = np.zeros(256)
    stem = "classes" if len(selections) == 1 else "change"
    for part in plan.parts:
        suffix = "" if len(plan.parts) == 1 else f"-{part.grid.crs.rpartition(':')[2]}"
        name = f"{stem}{suffix}.tif"
        ground += await _raster(landcover, selections, part, folder / name, tick)
        results[f"cog{suffix}"] = {"file": name, "type": COG}
    legend = selections[0].session.card.legend
    if len(selections) == 1:
        results["statistics"] = {"value": statistics(legend, ground)}
    else:
        results["matrix"] = {"value": matrix(legend, ground)}
    return results


def statistics(legend: Legend, ground: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Area of every class, m² by value, as hectares and per cent of what has data."""
    total = sum(float(ground[value]) for value in legend.values)
    classes = [
        {
            "value": each.value,
            "name": each.name,
            "title": each.title,
            "hectares": float(ground[each.value]) / 1e4,
            "percent": 100 * float(ground[each.value]) / total if total else 0.0,
        }
        for each in legend.classes
        if each.value in legend.values
    ]
    missing = float(ground[NODATA]) / 1e4
    return {"classes": classes, "hectares": total / 1e4, "hectares_without_imagery": missing}


def matrix(legend: Legend, ground: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Hectares by class before (rows) and after (columns)."""
    rows = [[float(ground[a * _BASE + b]) / 1e4 for b in legend.values] for a in legend.values]
    return {
        "classes": [each.name for each in legend.classes if each.value in legend.values],
        "hectares": rows,
        "hectares_unchanged": sum(rows[i][i] for i in range(len(rows))),
        "hectares_without_imagery": float(ground[NODATA]) / 1e4,
        "limit": "Images of two years may lie a few metres apart: edges of classes show as change.",
    }


async def _raster(
    landcover: LandCover, selections: Sequence[Selection], part: Part, path: Path, tick: Tick
) -> npt.NDArray[np.float64]:
    """Writes one raster; ground area by pixel value, m²."""
    card = selections[-1].session.passport
    colours: Colours = Palette.of_classes(card.legend, card.legend.colours(), None).colours
    tags: dict[str, str] = {}
    if len(selections) == 2:
        values = card.legend.values
        by_value = dict(colours)
        colours = [(a * _BASE + b, by_value[b]) for a in values for b in values]
        names = {each.value: each.name for each in card.legend.classes}
        pairs = {a * _BASE + b: f"{names[a]} to {names[b]}" for a in values for b in values}
        tags["LANDCOVER_CLASSES"] = json.dumps(
            [{"value": value, "name": name} for value, name in pairs.items()]
        )
    ground = np.zeros(256)
    with class_cog(path, part.grid, part.extent, colours, card, tags) as raster:
        for block in part.blocks():
            found = [await landcover.block(selection, block) for selection in selections]
            scenes = [scene for each in found if each for scene in each.scenes]
            layers = [each.classes if each else np.full(_SHAPE, NODATA, np.uint8) for each in found]
            inside = _inside(part, block)
            pixels = np.where(inside, combined(layers), NODATA).astype(np.uint8)
            await landcover.reads.run(raster.write, block.window, pixels, scenes)
            counts = np.bincount(pixels[inside], minlength=256)
            ground += counts * part.grid.resolution**2 / _areal_scale(block)
            tick()
    return ground


_SHAPE = (BLOCK, BLOCK)


def combined(layers: Sequence[Classes]) -> Classes:
    """One year as it is; two as from · 10 + to, 255 where either has no data."""
    if len(layers) == 1:
        return layers[0]
    before, after = layers
    data = (before != NODATA) & (after != NODATA)
    pairs = np.where(data, before, 0) * _BASE + np.where(data, after, 0)
    return np.where(data, pairs, NODATA).astype(np.uint8)


def _inside(part: Part, block: Block) -> npt.NDArray[np.bool_]:
    affine = part.grid.transform(block.window)
    mask: npt.NDArray[np.bool_] = geometry_mask([part.area], _SHAPE, affine, invert=True)
    return mask


def _areal_scale(block: Block) -> float:
    left, bottom, right, top = block.grid.bounds(block.window)
    middle = (left + right) / 2, (bottom + top) / 2
    longitude, latitude = transformer(block.grid.crs, "OGC:CRS84").transform(*middle)
    return float(_projection(block.grid.crs).get_factors(longitude, latitude).areal_scale)


@lru_cache(maxsize=64)
def _projection(crs: str) -> Proj:
    return Proj(crs)
