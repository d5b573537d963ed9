"""Class GeoTIFFs as rasterio reads them, and what a failure leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile

from app.grid.classified import SceneRef
from app.grid.pixel_grid import PixelGrid
from app.grid.tile import Tile
from app.render.attribute_table import table_of
from app.render.geotiff import class_cog, tile_tif
from model.legend import LEGEND, NODATA
from model.windows import BLOCK, Window, cover
from tests.app.conftest import Classes
from tests.world.graphs import card_of
from tests.world.ground import classes_on_grid

GRID = PixelGrid("EPSG:26916")
EXTENT = Window(502_700, 6_351_400, 1500, 1200)
COLORS = tuple(LEGEND.colors().items())
TABLE = table_of(LEGEND)
CARD = card_of().model_copy(update={"sha256": "ab" * 32})
SCENES = (
    SceneRef("m_3208601_nw_16_1_20170903", "2017-09-03"),
    SceneRef("m_3208601_ne_16_1_20150812", "2015-08-12"),
)


def truth_in(window: Window) -> Classes:
    return classes_on_grid(window.col, window.row, window.cols, window.rows)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("geotiff") / "new" / "classes.tif"
    with class_cog(path, GRID, EXTENT, TABLE) as raster:
        for number, block in enumerate(cover(EXTENT)):
            raster.write(block, truth_in(block), SCENES[number % 2 :][:1])
        raster.write(Window(0, 0, BLOCK, BLOCK), truth_in(block), ())  # elsewhere: nothing
        raster.finish(CARD)
    return path


def test_every_pixel_is_where_it_was_put(written: Path) -> None:
    with rasterio.open(written) as dataset:
        assert np.array_equal(dataset.read(1), truth_in(EXTENT))
        assert dataset.crs.to_epsg() == 26916
        assert dataset.bounds == (502_700.0, 3_647_400.0, 504_200.0, 3_648_600.0)
        assert dataset.res == (1, 1)


def test_it_says_what_it_is(written: Path) -> None:
    with rasterio.open(written) as dataset:
        assert (dataset.count, dataset.dtypes, dataset.nodata) == (1, ("uint8",), NODATA)
        table, tags = dataset.colormap(1), dataset.tags()
    for value, color in COLORS:
        assert table[value] == (*color, 255)
    assert tags["LANDCOVER_MODEL"] == "pixelwise 1.0"
    assert tags["LANDCOVER_MODEL_SHA256"] == "ab" * 32
    assert json.loads(tags["LANDCOVER_CLASSES"]) == LEGEND.stac()
    assert set(tags["LANDCOVER_SCENES"].split(",")) == {scene.id for scene in SCENES}
    assert tags["LANDCOVER_DATES"] == "2015-08-12,2017-09-03"


def test_it_is_a_cog_whose_overviews_show_the_mode(written: Path) -> None:
    with rasterio.open(written) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.block_shapes == [(BLOCK, BLOCK)]
        assert dataset.overviews(1)
        full = dataset.read(1)
    with rasterio.open(written, overview_level=0) as overview:
        assert overview.shape == (600, 750)
        small = overview.read(1)
    cells = full.reshape(600, 2, 750, 2).swapaxes(1, 2).reshape(600, 750, 4)
    counts = np.stack([(cells == value).sum(axis=2) for value in range(7)])
    shown = np.take_along_axis(counts, small[None].astype(int), axis=0)[0]
    # GDAL breaks ties in its own way; a class outnumbered by another is never shown.
    assert (shown == counts.max(axis=0)).all()


def test_blocks_that_were_never_written_are_nodata(tmp_path: Path) -> None:
    path = tmp_path / "classes.tif"
    first = next(cover(EXTENT))
    with class_cog(path, GRID, EXTENT, TABLE) as raster:
        raster.write(first, truth_in(first), ())
        raster.finish(CARD)
    part = first.intersection(EXTENT)
    assert part is not None
    expected = np.full(EXTENT.shape, NODATA, dtype=np.uint8)
    expected[part.slices_in(EXTENT)] = truth_in(part)
    with rasterio.open(path) as dataset:
        assert np.array_equal(dataset.read(1), expected)
        assert "LANDCOVER_SCENES" not in dataset.tags()


def test_nothing_is_left_when_it_fails_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "classes.tif"
    path.write_bytes(b"the old one")

    def write_half() -> None:
        first = next(cover(EXTENT))
        with class_cog(path, GRID, EXTENT, TABLE) as raster:
            raster.write(first, truth_in(first), ())
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        write_half()
    assert [entry.name for entry in tmp_path.iterdir()] == ["classes.tif"]
    assert path.read_bytes() == b"the old one"


def test_nothing_but_the_file_and_its_sidecar_is_left_when_it_succeeds(written: Path) -> None:
    assert sorted(entry.name for entry in written.parent.iterdir()) == [
        "classes.clr",
        "classes.qml",
        "classes.tif",
        "classes.tif.aux.xml",
    ]


def test_a_place_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with (
        pytest.raises(OSError, match="file"),
        class_cog(tmp_path / "file" / "classes.tif", GRID, EXTENT, TABLE),
    ):
        pass


@pytest.mark.parametrize("size", [256, 512, 1024])
def test_a_tile_is_a_geotiff_of_its_ground(size: int) -> None:
    tile = Tile(17, 33_860, 53_010, size)
    array = np.random.default_rng(1).choice([1, 2, 6, NODATA], size=(size, size)).astype(np.uint8)
    content = tile_tif(array, COLORS, tile.bounds, "EPSG:3857", CARD)
    with MemoryFile(content) as memory, memory.open(driver="GTiff") as dataset:
        assert np.array_equal(dataset.read(1), array)
        assert tuple(dataset.bounds) == pytest.approx(tile.bounds, abs=1e-6)
        assert (dataset.crs.to_epsg(), dataset.nodata) == (3857, NODATA)
        assert dataset.colormap(1)[3] == (*LEGEND.colors()[3], 255)
        assert dataset.tags()["LANDCOVER_MODEL_SHA256"] == "ab" * 32
