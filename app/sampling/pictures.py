"""The imagery itself in a tile: true color, color infrared or a vegetation index."""

from __future__ import annotations

import io
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image
from rio_tiler.colormap import cmap

from app.errors import InvalidRequest
from app.grid.interpolate import sample
from app.grid.pixel_grid import PixelGrid, bounds_between
from app.grid.projection import project
from app.grid.tile import CRS, Tile
from app.imagery import mosaic
from app.imagery.catalog.temporal import TemporalFilter
from app.imagery.reader import Reader
from app.landcover.source import Source
from app.sampling.newest import Candidate, choices
from model.edges import reflect_pad_invalid

Style = Literal["rgb", "cir", "ndvi"]
STYLES = get_args(Style)
MEDIA_TYPES = {"webp": "image/webp", "png": "image/png", "jpg": "image/jpeg"}

_BANDS = {"rgb": (0, 1, 2), "cir": (3, 0, 1)}
_NIR = 3
_FINEST = 0.25

Rgba = npt.NDArray[np.uint8]
Valid = npt.NDArray[np.bool_]


def picture(reader: Reader, source: Source, when: TemporalFilter, tile: Tile, style: Style) -> Rgba:
    """Return a tile's image, uint8 (size, size, 4), transparent where there is no imagery.

    The imagery is read once, at the tile's ground resolution, and sampled by bilinear
    interpolation: nothing is warped by GDAL (see app.imagery.reader). Blocking; SourceUnavailable
    when imagery cannot be read.
    """
    out = np.zeros((tile.size, tile.size, 4), dtype=np.uint8)
    if not source.shows(tile):
        return out
    source.catalog.load(tile.lonlat_bounds, when)
    candidates = _candidates(source, when, tile)
    painted: dict[int, tuple[Rgba, Valid]] = {}
    for choice in choices(tile.grid, tile.window, candidates, when):
        for number, candidate in enumerate(candidates):
            here = (out[..., 3] == 0) & (choice == number)
            if not here.any():
                continue
            if number not in painted:
                painted[number] = _paint(reader, candidate, when, tile, style)
            colors, valid = painted[number]
            here &= valid
            out[here] = np.dstack([colors, np.full(here.shape, 255, dtype=np.uint8)])[here]
    return out


def encode(image: Rgba, suffix: str) -> bytes:
    """Return the bytes of an image as `webp`, `png` or `jpg` (white where it is transparent)."""
    out = io.BytesIO()
    if suffix == "webp":
        Image.fromarray(image).save(out, "WEBP", quality=85, method=2)
    elif suffix == "png":
        Image.fromarray(image).save(out, "PNG", compress_level=3)
    else:
        opaque = np.where(image[..., 3:] > 0, image[..., :3], 255).astype(np.uint8)
        Image.fromarray(opaque).save(out, "JPEG", quality=88)
    return out.getvalue()


def _candidates(source: Source, when: TemporalFilter, tile: Tile) -> list[Candidate]:
    """Return the grids of the tile's resolution that have imagery under it, and their scenes."""
    resolution, candidates = max(tile.ground_resolution, _FINEST), []
    for crs in sorted(grid.crs for grid in source.grids()):
        scenes = source.catalog.search(crs, bounds_between(CRS, crs, tile.bounds), when)
        if scenes:
            candidates.append(Candidate(PixelGrid(crs, resolution), scenes))
    return candidates


def _paint(
    reader: Reader, candidate: Candidate, when: TemporalFilter, tile: Tile, style: Style
) -> tuple[Rgba, Valid]:
    """Return the tile as the images of one CRS show it, uint8 (size, size, 3), and where they do,
    bool (size, size)."""
    grid = candidate.grid
    window = grid.touching(bounds_between(CRS, grid.crs, tile.bounds)).expand(2)
    ordered = mosaic.ordered(candidate.scenes, grid, window, when)
    if not ordered:
        shape = tile.size, tile.size
        return np.zeros((*shape, 3), dtype=np.uint8), np.zeros(shape, dtype=np.bool_)
    pixels = mosaic.read(reader, ordered, grid, window).pixels
    projected = project(tile.grid, tile.window, grid.crs)
    left, _, _, top = grid.bounds(window)
    cols = projected.x / grid.resolution - left / grid.resolution - 0.5
    rows = (top - projected.y) / grid.resolution - 0.5
    # Mirrored at its edge: the interpolation would mix black into the last pixel.
    samples = sample(reflect_pad_invalid(pixels.image, pixels.valid), cols, rows)
    nearest = np.rint(rows).astype(np.intp), np.rint(cols).astype(np.intp)
    return _styled(samples, style), pixels.valid[nearest]


def _styled(samples: npt.NDArray[np.float32], style: Style) -> Rgba:
    """Return uint8 (rows, cols, 3) of samples, float32 (bands, rows, cols); InvalidRequest for a
    style that needs near infrared where there is none."""
    if len(samples) <= _NIR and style != "rgb":
        raise InvalidRequest("style", style, "rgb: this imagery is read without near infrared")
    if style == "ndvi":
        red, nir = samples[0], samples[_NIR]
        index = (nir - red) / np.maximum(nir + red, 1)
        ramp = np.array([cmap.get("rdylgn")[i][:3] for i in range(256)], dtype=np.uint8)
        steps = np.clip((index + 0.5) / 1.3 * 255, 0, 255).astype(np.uint8)
        painted: Rgba = np.take(ramp, steps, axis=0)
        return painted
    bands = samples[list(_BANDS[style])]
    return np.ascontiguousarray(np.rint(bands).astype(np.uint8).transpose(1, 2, 0))
