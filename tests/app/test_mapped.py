"""Imagery in degrees, feet, rotated or stretched: the ground where it says it is, one way only."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.enums import ColorInterp, Resampling

from app.grid.pixel_grid import NORTH, PixelGrid
from app.imagery import gdal, mosaic
from app.imagery.catalog.index import IndexStore
from app.imagery.reader import Reader
from app.imagery.scene import ImageHeader, ReadOptions, Scene, UnsupportedImage, inspect
from app.imagery.scene import scene_of as header_to_scene
from model.windows import Window
from tests.app.conftest import Serve, classes_in, tiles_around
from tests.world.ground import classes_on_grid, ground, on_grid

GRID = PixelGrid("EPSG:32616")
CENTER = (503_000.0, 3_648_000.0)


@pytest.fixture(autouse=True)
def _configured() -> None:
    gdal.configure()


def turned(degrees: float, size: float) -> Affine:
    """Pixels of `size` around `CENTER`, 700 × 600 of them, turned clockwise."""
    return (
        Affine.translation(*CENTER)
        @ Affine.rotation(-degrees)
        @ Affine.scale(size, -size)
        @ Affine.translation(-350, -300)
    )


def around(crs: str, dx: float, dy: float) -> Affine:
    """Upright pixels of dx × dy in another CRS around the same place, 700 × 600 of them."""
    x, y = Transformer.from_crs(32616, crs, always_xy=True).transform(*CENTER)
    return Affine(dx, 0, x - 350 * dx, 0, -dy, y + 300 * dy)


PLACES: dict[str, tuple[str, Affine]] = {
    "degrees": ("EPSG:4326", around("EPSG:4326", 1 / 93_400, 1 / 110_900)),
    "square degrees": ("EPSG:4269", around("EPSG:4269", 1e-5, 1e-5)),
    "feet": ("EPSG:3435", around("EPSG:3435", 3.28, 3.28)),
    "web mercator": ("EPSG:3857", around("EPSG:3857", 1.19, 1.19)),
    "turned": ("EPSG:32616", turned(17, 1.0)),
    "stretched": ("EPSG:32616", around("EPSG:32616", 1.0, 0.7)),
    "south up": ("EPSG:32616", Affine(1, 0, CENTER[0] - 350, 0, 1, CENTER[1] - 300)),
    "fine degrees": ("EPSG:4326", around("EPSG:4326", 0.3 / 93_400, 0.3 / 110_900)),
}


def write(path: Path, place: str, *, alpha: bool = False, overviews: bool = False) -> Path:
    """The made ground of UTM 16 as seen by the pixels of another CRS."""
    crs, affine = PLACES[place]
    col, row = np.meshgrid(np.arange(700) + 0.5, np.arange(600) + 0.5)
    there = affine @ (col, row)
    x, y = Transformer.from_crs(crs, 32616, always_xy=True).transform(*there)
    size = {"width": 700, "height": 600, "count": 4, "dtype": "uint8"}
    how = {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "pixel"}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=affine, **size, **how) as file:
        file.write(ground(np.asarray(x), np.asarray(y)))
        fourth = ColorInterp.alpha if alpha else ColorInterp.undefined
        file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, fourth)
    if overviews:
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4], Resampling.average)
    return path


def scene_of(path: Path) -> Scene:
    return inspect(path, ReadOptions())


@pytest.mark.parametrize("place", PLACES)
def test_it_is_served_on_the_utm_grid_of_its_center_at_its_true_size(
    tmp_path: Path, place: str
) -> None:
    scene = scene_of(write(tmp_path / "a.tif", place))
    assert scene.crs == "EPSG:32616"
    crs, affine = PLACES[place]
    project = Transformer.from_crs(crs, 32616, always_xy=True).transform
    corners = [affine @ corner for corner in ((350, 300), (351, 300), (350, 301))]
    middle, right, below = (project(*corner) for corner in corners)
    area = math.dist(middle, right) * math.dist(middle, below)
    assert scene.resolution == pytest.approx(math.sqrt(area), rel=2e-3)
    left, bottom, east, top = scene.bounds
    assert left < CENTER[0] < east
    assert bottom < CENTER[1] < top


def by_hand(path: Path, place: str, scene: Scene, col: int, row: int) -> npt.NDArray[np.float64]:
    """One grid pixel: its center projected by PROJ, the averaged image interpolated in doubles."""
    crs, affine = PLACES[place]
    factor = 1 << max(0, round(math.log2(1 / scene.resolution)))
    there = Transformer.from_crs(32616, crs, always_xy=True).transform(col + 0.5, NORTH - row - 0.5)
    u, v = ~affine @ there
    with rasterio.open(path) as file:
        image = file.read().astype(float)
    rows, cols = image.shape[1] // factor, image.shape[2] // factor
    image = image[:, : rows * factor, : cols * factor]
    image = np.rint(image.reshape(4, rows, factor, cols, factor).mean(axis=(2, 4)))
    u, v = u / factor - 0.5, v / factor - 0.5
    i, j = math.floor(u), math.floor(v)
    result: npt.NDArray[np.float64] = sum(
        image[:, j + dj, i + di] * (1 - abs(u - i - di)) * (1 - abs(v - j - dj))
        for di in (0, 1)
        for dj in (0, 1)
    )
    return result


@pytest.mark.parametrize("overviews", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_a_pixel_is_the_image_at_its_center(tmp_path: Path, place: str, overviews: bool) -> None:
    path = write(tmp_path / "a.tif", place, overviews=overviews)
    scene, draw = scene_of(path), random.Random(6)
    middle = Window(int(CENTER[0]) - 60, int(NORTH - CENTER[1]) - 50, 120, 100)
    pixels = Reader().read(scene, GRID, middle)
    assert pixels.valid.all()
    coarse = scene.resolution > 0.7
    for _ in range(20):
        col, row = draw.randrange(120), draw.randrange(100)
        expected = by_hand(path, place, scene, middle.col + col, middle.row + row)
        # Both may round the average and the sample the other way.
        assert np.abs(pixels.image[:, row, col] - expected).max() <= (0.52 if coarse else 1.6)
    truth = on_grid(middle.col, middle.row, 120, 100).astype(int)
    off = np.abs(pixels.image - truth)
    assert np.median(off) <= 2
    assert (off > 25).mean() < 0.12


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_no_pixel_depends_on_the_window_that_is_read(
    tmp_path: Path, place: str, alpha: bool
) -> None:
    path = write(tmp_path / "a.tif", place, alpha=alpha, overviews=True)
    scene, reader, draw = scene_of(path), Reader(), random.Random(7)
    extent = scene.extent(GRID)
    assert extent is not None
    whole = reader.read(scene, GRID, extent)
    inner = 0
    for _ in range(15):
        cols, rows = draw.randint(3, extent.cols), draw.randint(3, extent.rows)
        left = draw.randint(extent.col, extent.col_stop - cols)
        top = draw.randint(extent.row, extent.row_stop - rows)
        window = Window(left, top, cols, rows)
        part, where = reader.read(scene, GRID, window), window.slices_in(extent)
        assert (part.image == whole.image[(slice(None), *where)]).all()
        core = (slice(1, -1), slice(1, -1))
        assert (part.valid[core] == whole.valid[where][core]).all()
        inner += int(part.valid.sum())
    assert inner > 1000


@pytest.mark.parametrize("place", ["turned", "degrees"])
def test_what_lies_outside_of_the_image_is_not_valid(tmp_path: Path, place: str) -> None:
    scene = scene_of(write(tmp_path / "a.tif", place))
    extent = scene.extent(GRID)
    assert extent is not None
    valid = Reader().read(scene, GRID, extent).valid
    crs, affine = PLACES[place]
    x, y = np.meshgrid(
        np.arange(extent.col, extent.col_stop) + 0.5,
        NORTH - np.arange(extent.row, extent.row_stop) - 0.5,
    )
    u, v = ~affine @ Transformer.from_crs(32616, crs, always_xy=True).transform(x, y)
    inside = (u > 0) & (u < 700) & (v > 0) & (v < 600)
    assert not valid[~inside].any()
    deep = (u > 3) & (u < 697) & (v > 3) & (v < 597)
    assert valid[deep].all()
    assert (valid.mean() < 0.999) == (place == "turned")


def test_the_nodata_value_is_kept_where_the_image_does_not_reach(tmp_path: Path) -> None:
    scene = inspect(write(tmp_path / "a.tif", "turned"), ReadOptions(nodata=255))
    extent = scene.extent(GRID)
    assert extent is not None
    pixels = Reader().read(scene, GRID, extent)
    assert not pixels.valid.all()
    assert pixels.valid.any()


def test_a_tile_of_it_has_the_classes_of_the_ground(
    serve: Serve, pixelwise_model: Path, tmp_path: Path
) -> None:
    for place, alpha in (("degrees", False), ("feet", True)):
        folder = tmp_path / place
        write(folder / "ortho_2017.tif", place, alpha=alpha)
        lon, lat = Transformer.from_crs(32616, 4326, always_xy=True).transform(*CENTER)
        z, x, y = tiles_around(lon, lat, 18, 0)[0]
        with serve(folder, pixelwise_model) as client:
            answer = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy")
            classes = classes_in(answer.content, "npy")
            assert (classes != 255).mean() > 0.9
            point = client.get(f"/point/{lon},{lat}").json()
            col, row = int(CENTER[0]), int(NORTH - CENTER[1])
            around_it = classes_on_grid(col - 1, row - 1, 3, 3)
            assert point["class"]["value"] in around_it
            assert client.get(f"/imagery/tiles/WebMercatorQuad/{z}/{x}/{y}.png").status_code == 200


def test_it_fills_what_imagery_on_the_grid_leaves_open(tmp_path: Path) -> None:
    """Two scenes of one grid, one of them mapped: each pixel is one's or the other's."""
    mapped = scene_of(write(tmp_path / "ortho_2016.tif", "degrees"))
    crs, affine = "EPSG:32616", Affine(1, 0, CENTER[0], 0, -1, CENTER[1] + 100)
    with rasterio.open(
        tmp_path / "b_2017.tif", "w", driver="GTiff", crs=crs, transform=affine, width=200,
        height=200, count=4, dtype="uint8",
    ) as file:  # fmt: skip
        file.write(on_grid(int(CENTER[0]), int(NORTH - CENTER[1]) - 100, 200, 200))
    upright = scene_of(tmp_path / "b_2017.tif")
    window = Window(int(CENTER[0]) - 100, int(NORTH - CENTER[1]) - 50, 250, 100)
    order = mosaic.ordered([mapped, upright], GRID, window)
    assert order == (upright, mapped)
    mixed = mosaic.read(Reader(), order, GRID, window)
    alone = Reader().read(mapped, GRID, window)
    assert mixed.pixels.valid.all()
    assert (mixed.pixels.image[:, :, :100] == alone.image[:, :, :100]).all()
    truth = on_grid(int(CENTER[0]), window.row, 150, 100)
    assert (mixed.pixels.image[:, :, 100:] == truth).all()


def test_pixels_too_coarse_are_refused_unless_forced(tmp_path: Path) -> None:
    PLACES["coarse"] = ("EPSG:4326", around("EPSG:4326", 2.3 / 93_400, 2.3 / 110_900))
    path = write(tmp_path / "a.tif", "coarse")
    del PLACES["coarse"]
    with pytest.raises(UnsupportedImage, match=r"has pixels of 2\.\d+ m.*force = true"):
        scene_of(path)
    assert inspect(path, ReadOptions(force=True)).resolution == pytest.approx(2.3, rel=0.01)


def test_what_is_known_of_it_outlives_the_process(tmp_path: Path) -> None:
    scene = scene_of(write(tmp_path / "a.tif", "feet"))
    store = IndexStore(tmp_path / "index.json", ReadOptions())
    store.save({"a": ("1", scene)})
    assert store.load() == {"a": ("1", scene)}


@pytest.mark.parametrize("crs", ["EPSG:26916", "EPSG:4326", "EPSG:3857", "EPSG:2229"])
@pytest.mark.parametrize(
    "transform",
    [
        Affine(1e308, 0, 5e5, 0, -1e308, 4e6),
        Affine(1, 0, 1e308, 0, -1, 1e308),
        Affine(math.nan, 0, 5e5, 0, -1, 4e6),
        Affine(1, 0, math.inf, 0, -1, 4e6),
        Affine(1, 0, -math.inf, 1e-3, -1, math.nan),
        Affine(1e-300, 0, 5e5, 0, -1e-300, 4e6),
        Affine(0, 0, 5e5, 0, 0, 4e6),
    ],
)
def test_a_header_that_places_an_image_nowhere_is_refused(crs: str, transform: Affine) -> None:
    header = ImageHeader(crs, transform, (1000, 1000), ("uint8",) * 4)
    with pytest.raises(UnsupportedImage):
        header_to_scene(header, ReadOptions(), "a", href="a.tif", identity="1", acquired="2017")
