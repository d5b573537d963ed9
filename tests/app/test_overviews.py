"""Overviews against modes counted by brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from app.grid.classified import mode_of
from app.grid.pixel_grid import PixelGrid
from app.imagery import gdal
from app.render.attribute_table import table_of
from app.render.geotiff import CREATION, class_cog
from app.render.overviews import levels_of, modes, write_overviews
from model.legend import LEGEND, NODATA
from model.windows import Window
from tests.app.conftest import Classes
from tests.world.graphs import card_of


def patches(rows: int, cols: int, seed: int = 1) -> Classes:
    """Patches of classes and of nodata, with single pixels strewn in."""
    draw = np.random.default_rng(seed)
    values = np.array([1, 2, 3, 4, 5, 6, NODATA], dtype=np.uint8)
    coarse = draw.choice(values, size=(rows // 24 + 2, cols // 24 + 2))
    array = np.kron(coarse, np.ones((24, 24), dtype=np.uint8))[7 : 7 + rows, 5 : 5 + cols]
    strewn = draw.random(array.shape) < 0.2
    array[strewn] = draw.choice(values, size=int(strewn.sum()))
    return array.astype(np.uint8)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_level_is_the_mode_counted_at_full_resolution(seed: int) -> None:
    block = patches(512, 512, seed)
    found = modes(block, 9)
    assert [mode.shape for mode in found] == [
        (512 >> level, 512 >> level) for level in range(1, 10)
    ]
    for level, mode in enumerate(found, 1):
        assert np.array_equal(mode, mode_of(block, level))


def test_one_value_is_itself_at_every_level() -> None:
    for value in (3, NODATA):
        for mode in modes(np.full((512, 512), value, dtype=np.uint8), 9):
            assert (mode == value).all()


@pytest.mark.parametrize(
    ("side", "levels"), [(1, 0), (512, 0), (513, 1), (1024, 1), (1025, 2), (262_144, 9), (10**7, 9)]
)
def test_the_last_overview_fits_one_block(side: int, levels: int) -> None:
    assert levels_of(side, 1) == levels_of(1, side) == levels


def test_a_raster_of_any_size_gets_overviews_of_its_pixels(tmp_path: Path) -> None:
    array = patches(1111, 1700)
    path = tmp_path / "a.tif"
    profile = {**CREATION, "tiled": True, "blockxsize": 512, "blockysize": 512}
    place = {"crs": "EPSG:26916", "transform": Affine(1, 0, 500_000, 0, -1, 3_600_000)}
    with rasterio.open(path, "w", **profile, width=1700, height=1111, **place) as dataset:
        dataset.write(array, 1)
    write_overviews(path, profile)
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="FALSE"), rasterio.open(path) as dataset:
        assert dataset.overviews(1) == [2, 4]
    for level in (1, 2):
        cell = 1 << level
        padded = np.full((1536, 2048), NODATA, dtype=np.uint8)
        padded[:1111, :1700] = array
        with rasterio.open(f"{path}{'.ovr' * level}") as overview:
            found = overview.read(1)
        rows, cols = -(-1111 // cell), -(-1700 // cell)
        assert found.shape == (rows, cols)
        for row, col in np.random.default_rng(level).integers(0, (rows, cols), (300, 2)):
            cells = padded[row * cell : (row + 1) * cell, col * cell : (col + 1) * cell]
            counts = np.bincount(cells.ravel(), minlength=256)
            assert counts[found[row, col]] == counts.max()


def test_a_class_raster_takes_them_over_whatever_the_service_tells_gdal(tmp_path: Path) -> None:
    gdal.configure(64)
    array, extent = patches(1024, 2048), Window(1000, 1000, 2048, 1024)
    path = tmp_path / "cog.tif"
    with class_cog(path, PixelGrid("EPSG:26916"), extent, table_of(LEGEND)) as raster:
        raster.write(extent, array, ())
        raster.finish(card_of())
    for level in (1, 2):
        with rasterio.open(path, overview_level=level - 1) as overview:
            found = overview.read(1)
        for row in range(2):
            for col in range(4):
                chunk = array[row * 512 : row * 512 + 512, col * 512 : col * 512 + 512]
                side = 512 >> level
                part = found[row * side : (row + 1) * side, col * side : (col + 1) * side]
                assert np.array_equal(part, mode_of(chunk, level))
