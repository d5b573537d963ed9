"""Labels on the imagery's own pixels: uint8 GeoTIFFs, 0 unlabeled, else the legend's values.

From polygons and points (a pixel belongs to the polygon that contains its center), or from another
label raster (the nearest pixel). Unusable features are reported by id.
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
from pydantic import Field
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from model.legend import LEGEND, Legend
from training.config.base import StrictModel
from training.data.crosswalks import Crosswalk, load_crosswalk
from training.data.files import atomic, write_json
from training.data.imagery import LABEL, Picture, crs_name, describe, extent, find
from training.data.label_features import (
    REPORT,
    FeatureIssues,
    Features,
    NoFeatures,
    Report,
    fields_of,
    overlaps,
    read_features,
)
from training.data.scenes import BANDS, Label
from training.errors import LabelError
from training.progress import Log, print_line

CLASS_FIELD, IMAGE_FIELD = "classvalue", "image"
"""Fields of the files that `uncertain` writes."""


class LabelSettings(StrictModel):
    """Where labels come from and what their codes mean."""

    source: Path
    """GeoPackage, GeoJSON, Shapefile, or a label raster."""

    field: str = "classvalue"
    """Field that holds the class of a feature."""

    crosswalk: str = "legend"
    """Name of a crosswalk, or the path of one (.toml)."""

    layer: str | None = None
    """Layer of a file with several."""

    image_field: str | None = None
    """Field that names the image each feature was drawn on (file name without suffix), so that
    labels of one year do not label the others. Without it a feature labels every image it meets."""

    radius_m: Annotated[float, Field(gt=0)] | None = None
    """Meters around a point that get its class."""

    corrections: tuple[Path, ...] = ()
    """Files of features, as `uncertain` writes them, that override the other labels where they have
    a class, a later file the earlier ones."""


def label(
    imagery: Path,
    settings: LabelSettings,
    out: Path,
    log: Log = print_line,
    *,
    legend: Legend = LEGEND,
    bands: int = BANDS,
) -> Report:
    """Write `<name>_label.tif` into `out` for every image that has labels, and `labels.json`.

    Raises LabelError when the labels fit no image (naming both CRSs), or nothing gets a label.
    """
    pictures = find(imagery, bands)
    crosswalk = load_crosswalk(settings.crosswalk, legend)
    source = settings.source
    report = Report(source.name, crosswalk.name, tuple(c.name for c in legend.classes))
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
    if settings.corrections:
        drawn = _corrections(settings, crosswalk, report, log)
        painted = _corrected(painted, drawn, pictures, settings, report)
    for picture, pixels in painted:
        counts = np.bincount(pixels.ravel(), minlength=len(legend.classes) + 1)[1:]
        if not counts.any():
            report.unlabeled_images.append(picture.name)
            continue
        report.images[picture.name] = [int(n) for n in counts]
        write_label(pixels, picture, label_path(out, picture), legend)
        log(f"{picture.name}: {counts.sum():,} labeled pixels")
    if not report.images:
        codes = sorted({*report.features.unknown_code.values(), *report.unknown_pixels})
        raise LabelError(
            f"{source} labels no pixel of the imagery"
            + (f"; codes unknown to crosswalk {crosswalk.name!r}: {codes[:20]}" if codes else "")
        )
    write_json(out / REPORT, asdict(report))
    return report


def _corrections(
    settings: LabelSettings, crosswalk: Crosswalk, report: Report, log: Log
) -> list[Features]:
    """Return the features of the corrections that have a class; those without are no issue."""
    result = []
    for path in settings.corrections:
        issues = FeatureIssues()
        try:
            fields = fields_of(path)
            result.append(
                read_features(
                    path,
                    settings.field if settings.field in fields else CLASS_FIELD,
                    crosswalk,
                    issues,
                    image_field=IMAGE_FIELD if IMAGE_FIELD in fields else None,
                    radius=settings.radius_m,
                )
            )
        except NoFeatures as error:
            if issues.unknown_code:
                raise
            log(f"warning: {error}")
        log(f"{path.name}: {len(issues.no_class)} features have no class yet")
        report.features.unknown_code |= issues.unknown_code
    return result


def _corrected(
    painted: Iterator[tuple[Picture, Label]],
    corrections: Sequence[Features],
    pictures: Sequence[Picture],
    settings: LabelSettings,
    report: Report,
) -> Iterator[tuple[Picture, Label]]:
    """Yield images whose labels are those painted, and over them those of the corrections."""
    seen: set[str] = set()

    def over(picture: Picture, pixels: Label) -> Label:
        for features in corrections:
            mine, polygons = features.on(picture, settings.radius_m)
            if len(mine):
                drawn, _ = paint(polygons, features.values[mine], picture)
                pixels = np.where(drawn > 0, drawn, pixels).astype(np.uint8)
        return pixels

    for picture, pixels in painted:
        seen.add(picture.name)
        yield picture, over(picture, pixels)
    for picture in pictures:
        if picture.name in seen:
            continue
        pixels = over(picture, np.zeros(picture.shape, np.uint8))
        if pixels.any():
            if picture.name in report.unlabeled_images:
                report.unlabeled_images.remove(picture.name)
            yield picture, pixels


def label_path(folder: Path, picture: Picture) -> Path:
    """Return the path of an image's label raster in a folder of labels."""
    return folder / f"{picture.name}{LABEL}.tif"


def write_label(pixels: Label, picture: Picture, path: Path, legend: Legend = LEGEND) -> None:
    """Write a label raster uint8 (rows, cols) on the image's grid, in the legend's colors."""
    profile = {
        "driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": 0, "compress": "deflate",
        "height": picture.shape[0], "width": picture.shape[1], "transform": picture.transform,
        "crs": picture.crs.to_wkt() if picture.crs else None, "tiled": True,
        "blockxsize": 256, "blockysize": 256,
    }  # fmt: skip
    with atomic(path) as draft:
        with rasterio.open(draft, "w", **profile) as target:
            target.write(pixels, 1)
            target.write_colormap(1, {v: (*rgb, 255) for v, rgb in legend.colors().items()})
        _sync(draft)


def _sync(path: Path) -> None:
    """Read a file back and flush it: GDAL only logs errors that occur while a file is closed."""
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
        pixels, conflicting = paint(polygons, values, picture)
        report.overlap_pixels += conflicting
        t = picture.transform
        for result in overlaps(features.ids[mine], values, polygons, abs(t.a * t.e)):
            pairs.setdefault(tuple(result["features"]), result)
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
    """Rasterize polygons in the image's CRS with classes uint8 (n,) to uint8 (rows, cols); return
    that and the number of pixels left 0 because polygons of different classes contain them.
    """
    pixels = np.zeros(picture.shape, np.uint8)
    conflicting = np.zeros(picture.shape, bool)
    for value in np.unique(values):
        inside = rasterize(
            [shape for shape in polygons[values == value] if not shape.is_empty],
            out_shape=picture.shape,
            transform=picture.transform,
            dtype=np.uint8,
        ).astype(bool)
        conflicting |= inside & (pixels > 0)
        pixels[inside] = value
    pixels[conflicting] = 0
    return pixels, int(conflicting.sum())


def _guess(bounds: tuple[float, float, float, float], crs: CRS, pictures: Sequence[Picture]) -> str:
    """Return a hint at a frequent mistake: coordinates in meters in a file that says degrees."""
    if crs.is_geographic and max(map(abs, bounds)) > 360:
        projected = next((p.crs for p in pictures if p.crs is not None), None)
        return (
            f": these are not degrees; if the coordinates are meters, set the file's CRS "
            f"(Layer > Set Layer CRS in QGIS), perhaps to {crs_name(projected)}"
        )
    return ""


ROWS = 512
"""Rows of a label raster that are read at a time."""


def is_raster(path: Path) -> bool:
    """Return whether labels are pixels, not features (a geodatabase is a folder); LabelError where
    there is nothing, or another folder."""
    if not path.exists():
        raise LabelError(f"{path} is missing")
    if path.is_dir() and path.suffix.lower() != ".gdb":
        raise LabelError(f"{path} is a folder: name the file of labels in it")
    return path.suffix.lower() in {".tif", ".tiff", ".img", ".vrt"}


def from_raster(
    path: Path, crosswalk: Crosswalk, pictures: Sequence[Picture], report: Report
) -> Iterator[tuple[Picture, Label]]:
    """Yield each image's label, uint8 (rows, cols) on its pixels; codes that the crosswalk lacks
    are counted in the report. LabelError when no image gets a label."""
    with rasterio.open(path) as source:
        met = False
        for picture in pictures:
            if source.crs is None or picture.crs is None:
                if source.crs is not None or picture.crs is not None:
                    continue
                if source.shape != picture.shape:
                    continue
                pixels = _translated(source, crosswalk, picture, report)
            else:
                with WarpedVRT(
                    source,
                    crs=picture.crs.to_wkt(),
                    transform=picture.transform,
                    height=picture.shape[0],
                    width=picture.shape[1],
                    resampling=Resampling.nearest,
                    add_alpha=source.nodata is None,
                ) as warped:
                    pixels = _translated(warped, crosswalk, picture, report)
            met |= bool(pixels.any()) or bool(report.unknown_pixels)
            yield picture, pixels
        if not met:
            crs = CRS.from_user_input(source.crs) if source.crs else None
            raise LabelError(
                f"{path} ({crs_name(crs)} {extent(tuple(source.bounds))}) gives no label to the "
                f"imagery ({describe(pictures)})"
            )


def _translated(
    source: rasterio.DatasetReader, crosswalk: Crosswalk, picture: Picture, report: Report
) -> Label:
    pixels = np.zeros(picture.shape, np.uint8)
    for top in range(0, picture.shape[0], ROWS):
        window = Window(0, top, picture.shape[1], min(ROWS, picture.shape[0] - top))
        codes = source.read(1, window=window)
        known = source.read_masks(1, window=window) > 0
        if not known.any():
            continue
        for code in np.unique(codes[known]):
            here = known & (np.isnan(codes) if code != code else codes == code)  # noqa: PLR0124
            value = crosswalk.value(code)
            if value is None:
                text = str(code)
                seen = report.unknown_pixels.get(text, 0)
                report.unknown_pixels[text] = seen + int(here.sum())
            elif value:
                pixels[top : top + ROWS][here] = value
    return pixels
