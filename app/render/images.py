"""uint8 arrays → the bytes of an image file. Class images are palette-indexed, never lossy."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.legend import NODATA, Legend, Rgb

MEDIA_TYPES = {
    "png": "image/png",
    "webp": "image/webp",
    "tif": "image/tiff; application=geotiff",
    "npy": "application/x-binary",
}
"""Formats of a tile and their media types (titiler's)."""


@dataclass(frozen=True, slots=True)
class Palette:
    """A color per value; a value without one is transparent."""

    colors: tuple[tuple[int, Rgb], ...]

    @classmethod
    def of_classes(
        cls, legend: Legend, colors: Mapping[int, Rgb], shown: Collection[int] | None
    ) -> Palette:
        """Return the colors of the classes in `shown` (None: all)."""
        values = legend.values if shown is None else sorted(shown)
        return cls(tuple((value, colors[value]) for value in values))

    @classmethod
    def of_confidence(cls) -> Palette:
        """Return the colors of 0..100 percent, from dark violet over teal to yellow."""
        stops = np.array([[68, 1, 84], [33, 145, 140], [253, 231, 37]], dtype=np.float64)
        ramp = [np.interp(np.arange(101), (0, 50, 100), stops[:, band]) for band in range(3)]
        rgb = np.rint(np.stack(ramp, axis=1)).astype(int).tolist()
        return cls(tuple((value, (r, g, b)) for value, (r, g, b) in enumerate(rgb)))

    def rgba(self) -> npt.NDArray[np.uint8]:
        """Return the color and opacity of every value, uint8 (256, 4)."""
        table = np.zeros((256, 4), dtype=np.uint8)
        for value, color in self.colors:
            table[value] = (*color, 255)
        return table


def render(array: npt.NDArray[np.uint8], palette: Palette, suffix: str) -> bytes:
    """Return uint8 (rows, cols) as `png` (palette-indexed), `webp` (lossless) or `npy`.

    `npy` is uint8 (1, rows, cols), the values themselves: what the palette leaves out is nodata.
    """
    if suffix == "npy":
        return npy(shown_values(array, palette))
    table = palette.rgba()
    out = io.BytesIO()
    if suffix == "webp":
        Image.fromarray(table[array]).save(out, "WEBP", lossless=True, method=2)
        return out.getvalue()
    image = Image.fromarray(array)
    image.putpalette(table[:, :3].tobytes())
    image.save(out, "PNG", transparency=table[:, 3].tobytes(), compress_level=6)
    return out.getvalue()


def shown_values(array: npt.NDArray[np.uint8], palette: Palette) -> npt.NDArray[np.uint8]:
    """Return `array` with every value that the palette leaves out as nodata."""
    table = np.full(256, NODATA, dtype=np.uint8)
    for value, _ in palette.colors:
        table[value] = value
    return table[array]


def npy(array: npt.NDArray[np.uint8]) -> bytes:
    """Return (rows, cols) as a .npy file of (1, rows, cols)."""
    out = io.BytesIO()
    np.save(out, array[None], allow_pickle=False)
    return out.getvalue()
