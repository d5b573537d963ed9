"""Labels out of another label raster: the nearest pixel, its code through a crosswalk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
from pyproj import CRS
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from training.crosswalk import Crosswalk
from training.errors import LabelError
from training.imagery import Picture, crs_name, describe, extent
from training.label_report import Report
from training.scenes import Label

ROWS = 512
"""Rows of a label raster read at a time."""


def is_raster(path: Path) -> bool:
    """Whether labels are pixels, not features; LabelError where there is no file."""
    if not path.is_file():
        raise LabelError(f"{path} is missing")
    return path.suffix.lower() in {".tif", ".tiff", ".img", ".vrt"}


def from_raster(
    path: Path, crosswalk: Crosswalk, pictures: Sequence[Picture], report: Report
) -> Iterator[tuple[Picture, Label]]:
    """The label of each image, uint8 (rows, cols) on its pixels; codes that the crosswalk does not
    know are counted in the report. LabelError when no image gets one."""
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
                ) as placed:
                    pixels = _translated(placed, crosswalk, picture, report)
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
