"""An open GeoTIFF as pixels and what of them is data, at full size or of an overview.

Pixels are copied, never resampled by GDAL: its resampling obeys a fourth band tagged alpha, or each
band's nodata, and would take the color from water without near infrared. What is no data is said by
the four bands together, by a mask of the file, or by an alpha band beyond the four.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.windows import Window as RasterWindow

from app.imagery.scene import Bands

Image = npt.NDArray[np.uint8]
Valid = npt.NDArray[np.bool_]

FROM_OVERVIEWS = 4.0
"""From this many image pixels along a pixel's side on, overviews are read. What is classified
exactly never is: an overview may have been made by obeying a wrong tag."""


@dataclass(frozen=True, slots=True)
class Level:
    """The image itself (`number` None), or one of its overviews.

    `scale`: image pixels across and down one of its pixels; `shape`: (rows, cols).
    """

    number: int | None
    scale: tuple[float, float]
    shape: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Opened:
    """A dataset and what closes it. `test`: called with the shape of what is open and the rows and
    columns of a window before pixels of it are read; it raises when they are damaged."""

    dataset: rasterio.DatasetReader
    close: Callable[[], None]
    test: Callable[[tuple[int, int], slice, slice], None] | None = None

    @classmethod
    def at(
        cls,
        path: Path | str,
        test: Callable[[tuple[int, int], slice, slice], None],
        **options: int,
    ) -> Opened:
        """Open a local GeoTIFF; OSError or RasterioError."""
        dataset = rasterio.open(path, driver="GTiff", **options)
        return cls(dataset, dataset.close, test)

    def check(self, window: RasterWindow) -> None:
        """Test what lies under a window."""
        if self.test is not None:
            (top, bottom), (left, right) = window.toranges()
            rows = slice(math.floor(top), math.ceil(bottom))
            self.test(self.dataset.shape, rows, slice(math.floor(left), math.ceil(right)))


class Raster:
    """An open dataset, its overviews and its mask. Belongs to one thread."""

    def __init__(
        self,
        opened: Opened,
        open_overview: Callable[[int], Opened],
        mask: Opened | None = None,
    ) -> None:
        """`open_overview`: number, from 0 → that overview; `mask`: of a file beside
        the image, as large as it, 0 = no data."""
        self.dataset = opened.dataset
        self._opened = opened
        self._open_overview = open_overview
        self._mask = mask
        self._overviews: dict[int, Opened] = {}

    def level(self, ratio: float) -> Level:
        """Return what to read for pixels of `ratio` image pixels along their side: the coarsest
        overview that is as fine, from `FROM_OVERVIEWS` on."""
        shape = self.dataset.shape
        best = Level(None, (1.0, 1.0), shape)
        if ratio < FROM_OVERVIEWS:
            return best
        for number, factor in enumerate(self.dataset.overviews(1)):
            # Edges round up, so that a factor of 2 is 1.9998 of an image of 10,001 pixels.
            rows, cols = -(-shape[0] // factor), -(-shape[1] // factor)
            scale = shape[1] / cols, shape[0] / rows
            if best.scale[0] < scale[0] <= ratio * 1.01:
                best = Level(number, scale, (rows, cols))
        if best.number is None:
            return best
        rows, cols = self._at(best).dataset.shape
        return Level(best.number, (shape[1] / cols, shape[0] / rows), (rows, cols))

    def read(
        self, bands: Bands, nodata: float, level: Level, window: RasterWindow
    ) -> tuple[Image, Valid]:
        """Return a window of a level, which must lie within it: uint8 (4, rows, cols), and bool
        (rows, cols), True = data. Pixels of an overview that touch no data may hold some."""
        opened = self._at(level)
        opened.check(window)
        dataset = opened.dataset
        image: Image = dataset.read(indexes=bands, window=window)
        valid = (image != nodata).any(axis=0)
        flags = dataset.mask_flag_enums[bands[0] - 1]
        if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
            valid &= dataset.read_masks(bands[0], window=window) > 0
        if alpha := _fifth_alpha(dataset, bands):
            valid &= dataset.read(alpha, window=window) > 0
        if self._mask is not None:
            valid &= self._mask_beside(level, window) > 0
        return image, valid

    def close(self) -> None:
        """Close the dataset and what was opened of it."""
        for opened in (*self._overviews.values(), self._opened, self._mask):
            if opened is not None:
                opened.close()
        self._overviews.clear()

    def _at(self, level: Level) -> Opened:
        if level.number is None:
            return self._opened
        if level.number not in self._overviews:
            self._overviews[level.number] = self._open_overview(level.number)
        return self._overviews[level.number]

    def _mask_beside(self, level: Level, window: RasterWindow) -> Image:
        assert self._mask is not None  # noqa: S101 - for mypy
        across, down = level.scale
        part = RasterWindow(
            window.col_off * across,
            window.row_off * down,
            window.width * across,
            window.height * down,
        )
        shape = int(window.height), int(window.width)
        self._mask.check(part)
        mask: Image = self._mask.dataset.read(
            1, window=part, out_shape=shape, resampling=Resampling.nearest
        )
        return mask


def _fifth_alpha(dataset: rasterio.DatasetReader, bands: Bands) -> int | None:
    """Return the number of an alpha band that is the file's last and beyond the fourth. A fourth
    band tagged alpha is near infrared, whether it is read or not."""
    last: int = dataset.count
    is_alpha = last > 4 and dataset.colorinterp[-1] == ColorInterp.alpha
    return last if is_alpha and last not in bands else None
