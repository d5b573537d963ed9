"""Labels on the imagery's own pixels: uint8 GeoTIFFs, 0 unlabeled, else the legend's values.

From polygons and points (a pixel belongs to the polygon that holds its center), or from another
label raster (the nearest pixel). What could not be used is told by feature id.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from pyproj import CRS
from rasterio.features import rasterize

from model.legend import LEGEND
from training.crosswalk import load_crosswalk
from training.errors import LabelError
from training.files import whole, write_json
from training.imagery import LABEL, Picture, crs_name, describe, extent, find
from training.label_raster import from_raster, is_raster
from training.label_report import REPORT, Report
from training.progress import Say, echo
from training.scenes import CLASSES, Label
from training.vectors import Features, overlaps, read_features


class LabelSettings(BaseModel):
    """Where labels come from and what their codes mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Path
    """GeoPackage, GeoJSON, Shapefile, or a label raster."""

    field: str = "classvalue"
    """Field that holds the class of a feature."""

    crosswalk: str = "legend"
    """Name of a crosswalk, or the path of one (.toml)."""

    layer: str | None = None
    """Layer of a file with several."""

    image_field: str | None = None
    """Field that names the image each feature was drawn on (file name without suffix): labels of
    one year are then not laid on the others. Without it a feature labels every image it meets."""

    radius_m: Annotated[float, Field(gt=0)] | None = None
    """Meters of ground around a point that have its class."""


def label(imagery: Path, settings: LabelSettings, out: Path, say: Say = echo) -> Report:
    """Writes `<name>_label.tif` into `out` for every image that has labels, and `labels.json`.

    Raises LabelError when the labels fit no image (naming both CRSs), or nothing gets a label.
    """
    pictures = find(imagery)
    crosswalk = load_crosswalk(settings.crosswalk)
    source = settings.source
    report = Report(source.name, crosswalk.name)
    if is_raster(source):
        painted = from_raster(source, crosswalk, pictures, report)
    else:
        features = read_features(
            source,
            settings.field,
            crosswalk,
            report.features,
            layer=settings.layer,
            image_field=settings.image_field,
            radius=settings.radius_m,
        )
        painted = _from_features(features, pictures, settings, report)
    for picture, pixels in painted:
        counts = np.bincount(pixels.ravel(), minlength=CLASSES + 1)[1:]
        if not counts.any():
            report.unlabeled_images.append(picture.name)
            continue
        report.images[picture.name] = [int(n) for n in counts]
        write_label(pixels, picture, label_path(out, picture))
        say(f"{picture.name}: {counts.sum():,} labeled pixels")
    if not report.images:
        codes = sorted({*report.features.unknown_code.values(), *report.unknown_pixels})
        raise LabelError(
            f"{source} labels no pixel of the imagery"
            + (f"; codes unknown to crosswalk {crosswalk.name!r}: {codes[:20]}" if codes else "")
        )
    write_json(out / REPORT, asdict(report))
    return report


def label_path(folder: Path, picture: Picture) -> Path:
    """Where the label raster of an image lies in a folder of labels."""
    return folder / f"{picture.name}{LABEL}.tif"


def write_label(pixels: Label, picture: Picture, path: Path) -> None:
    """A label raster uint8 (rows, cols) on the image's grid, in the legend's colors."""
    profile = {
        "driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 0, "compress": "deflate",
        "height": picture.shape[0], "width": picture.shape[1], "transform": picture.transform,
        "crs": picture.crs.to_wkt() if picture.crs else None, "tiled": True,
        "blockxsize": 256, "blockysize": 256,
    }  # fmt: skip
    with whole(path) as draft:
        with rasterio.open(draft, "w", **profile) as target:
            target.write(pixels, 1)
            target.write_colormap(1, {v: (*rgb, 255) for v, rgb in LEGEND.colors().items()})
        _sync(draft)


def _sync(path: Path) -> None:
    """GDAL only logs what fails while a file is closed: asking the disk raises it."""
    with rasterio.open(path) as written:
        for _, window in written.block_windows(1):
            written.read(1, window=window)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _from_features(
    features: Features, pictures: Sequence[Picture], settings: LabelSettings, report: Report
) -> Iterator[tuple[Picture, Label]]:
    met: set[int] = set()
    pairs: dict[tuple[int, int], dict[str, Any]] = {}
    for picture in pictures:
        mine, polygons = features.on(picture, settings.radius_m)
        if not len(mine):
            report.unlabeled_images.append(picture.name)
            continue
        met.update(mine.tolist())
        values = features.values[mine]
        pixels, claimed = paint(polygons, values, picture)
        report.overlap_pixels += claimed
        t = picture.transform
        for found in overlaps(features.ids[mine], values, polygons, abs(t.a * t.e)):
            pairs.setdefault(tuple(found["features"]), found)
        yield picture, pixels
    if not met:
        bounds = shapely.total_bounds(features.geometries)
        raise LabelError(
            f"no feature of {features.path} ({crs_name(features.crs)} {extent(tuple(bounds))}) "
            f"meets the imagery ({describe(pictures)})"
            + _guess(tuple(bounds), features.crs, pictures)
        )
    noted = report.features
    noted.overlaps = [pairs[key] for key in sorted(pairs)]
    noted.outside = [int(i) for n, i in enumerate(features.ids) if n not in met]


def paint(polygons: NDArray[Any], values: NDArray[np.uint8], picture: Picture) -> tuple[Label, int]:
    """Polygons in the image's CRS, classes uint8 (n,) → uint8 (rows, cols), and how many pixels are
    0 because polygons of different classes hold them.
    """
    pixels = np.zeros(picture.shape, np.uint8)
    claimed = np.zeros(picture.shape, bool)
    for value in np.unique(values):
        holds = rasterize(
            [shape for shape in polygons[values == value] if not shape.is_empty],
            out_shape=picture.shape,
            transform=picture.transform,
            dtype=np.uint8,
        ).astype(bool)
        claimed |= holds & (pixels > 0)
        pixels[holds] = value
    pixels[claimed] = 0
    return pixels, int(claimed.sum())


def _guess(bounds: tuple[float, float, float, float], crs: CRS, pictures: Sequence[Picture]) -> str:
    """A frequent mistake: coordinates in meters in a file that says degrees."""
    if crs.is_geographic and max(map(abs, bounds)) > 360:
        projected = next((p.crs for p in pictures if p.crs is not None), None)
        return (
            f": these are no degrees; if the coordinates are meters, set the file's CRS "
            f"(Layer > Set Layer CRS in QGIS), perhaps to {crs_name(projected)}"
        )
    return ""
