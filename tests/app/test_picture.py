"""The imagery under the classes: where it lies, in which bands, and what is left open."""

from __future__ import annotations

import io
from pathlib import Path

import morecantile
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pyproj import Transformer

from app.grid.tile import TMS, Tile
from app.imagery import gdal
from app.imagery.catalog.files import DirectoryCatalog
from app.imagery.catalog.temporal import LATEST, TemporalFilter
from app.imagery.reader import Reader
from app.imagery.scene import ReadOptions
from app.landcover.source import Source
from app.sampling.pictures import Rgba, Style, encode, picture
from app.scheduling import Pool
from tests.app.conftest import tiles_around
from tests.world.ground import ground
from tests.world.world import World

Doubles = npt.NDArray[np.float64]
READS = Pool("read", 1)


@pytest.fixture(autouse=True)
def _configured() -> None:
    gdal.configure()


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader()


def source_of(directory: Path) -> Source:
    return Source("made", "Made", "", DirectoryCatalog(directory, ReadOptions()), READS)


def shown(
    reader: Reader, world: World, tile: Tile, style: Style = "rgb", year: int | None = None
) -> Rgba:
    when = LATEST if year is None else TemporalFilter.of_year(year)
    return picture(reader, source_of(world.directory), when, tile, style)


def under(tile: Tile, epsg: int = 26916) -> tuple[Doubles, Doubles]:
    """x and y in meters under every pixel center, each projected by PROJ."""
    box = TMS.xy_bounds(morecantile.Tile(tile.x, tile.y, tile.z))
    steps = (np.arange(tile.size) + 0.5) / tile.size
    mercator = np.meshgrid(
        box.left + steps * (box.right - box.left), box.top - steps * (box.top - box.bottom)
    )
    x, y = Transformer.from_crs(3857, epsg, always_xy=True).transform(*mercator)
    return np.asarray(x), np.asarray(y)


def tile_in(world: World, zoom: int, size: int = 256) -> Tile:
    return Tile(*tiles_around(*world.scenes[0].lonlat, zoom, 0)[0], size)


@pytest.mark.parametrize(("zoom", "size"), [(17, 256), (18, 512), (20, 256)])
@pytest.mark.parametrize("world", ["two_quads", "alpha_quads", "fine_quads"])
def test_true_color_shows_the_ground_under_every_pixel(
    request: pytest.FixtureRequest, reader: Reader, world: str, zoom: int, size: int
) -> None:
    place: World = request.getfixturevalue(world)
    tile = tile_in(place, zoom, size)
    image = shown(reader, place, tile)
    assert image.shape == (size, size, 4)
    assert (image[..., 3] == 255).all()
    off = np.abs(image[..., :3].astype(int) - np.moveaxis(ground(*under(tile))[:3], 0, -1))
    # Classes differ by 88 counts: only pixels at their boundaries may be far off.
    assert np.median(off) <= 2
    assert (off > 15).mean() < 0.12


@pytest.mark.parametrize("zoom", [17, 19])
def test_the_picture_lies_where_the_ground_lies(
    reader: Reader, two_quads: World, zoom: int
) -> None:
    tile = tile_in(two_quads, zoom)
    image = np.moveaxis(shown(reader, two_quads, tile)[..., :3], -1, 0).astype(int)
    x, y = under(tile)
    steps = (-0.5, 0.0, 0.5)
    off = {
        (east, north): np.abs(image - ground(x + east, y + north)[:3]).mean()
        for east in steps
        for north in steps
    }
    assert min(off, key=lambda shift: off[shift]) == (0.0, 0.0)


def test_below_native_zoom_a_pixel_shows_the_mean_of_its_ground(
    reader: Reader, two_quads: World
) -> None:
    tile = tile_in(two_quads, 14)
    image = shown(reader, two_quads, tile).astype(int)
    x, y = under(tile)
    steps = (np.arange(8) - 3.5) * tile.ground_resolution / 8
    samples = [ground(x + east, y + north)[:3] for east in steps for north in steps]
    mean = np.moveaxis(np.mean(samples, axis=0), 0, -1)
    west, east = two_quads.scenes
    middle = (x > west.left + 40) & (x < east.bounds[2] - 40)
    middle &= (y < east.top - 40) & (y > west.bounds[1] + 40)
    assert middle.sum() > 5000
    assert (image[..., 3][middle] == 255).all()
    assert np.abs(image[..., :3][middle] - mean[middle]).mean() < 8


def test_it_is_transparent_exactly_where_there_is_no_imagery(
    reader: Reader, two_quads: World
) -> None:
    west = two_quads.scenes[0]
    corner = Transformer.from_crs(26916, 4326, always_xy=True).transform(west.left, west.top)
    tile = Tile(*tiles_around(*corner, 17, 0)[0])
    image = shown(reader, two_quads, tile)
    x, y = under(tile)
    inside = (x > west.left + 3) & (y < west.top - 3)
    outside = (x < west.left) | (y > west.top)
    assert min(inside.sum(), outside.sum()) > 1000
    assert (image[..., 3][inside] == 255).all()
    assert not image[outside].any()


def test_a_collar_is_transparent(reader: Reader, collar_quads: World) -> None:
    west = collar_quads.scenes[0]
    lonlat = Transformer.from_crs(26916, 4326, always_xy=True).transform(
        west.left + 60, west.top - 60
    )
    tile = Tile(*tiles_around(*lonlat, 17, 0)[0])
    alpha = shown(reader, collar_quads, tile)[..., 3]
    x, y = under(tile)
    col, row = np.floor(x - west.left).astype(int), np.floor(west.top - y).astype(int)
    held = (col >= 3) & (row >= 3) & (col < west.cols - 3) & (row < west.rows - 3)
    valid = np.pad(west.valid(), 3)
    # Data, or collar, for 3 px around: on the boundary itself either is right.
    around = [
        valid[row[held] + 3 + down, col[held] + 3 + right]
        for down in range(-3, 4)
        for right in range(-3, 4)
    ]
    data, collar = np.all(around, axis=0), ~np.any(around, axis=0)
    assert min(data.sum(), collar.sum()) > 1000
    assert (alpha[held][data] == 255).all()
    assert (alpha[held][collar] == 0).all()


def test_far_from_all_imagery_everything_is_transparent(reader: Reader, two_quads: World) -> None:
    assert not shown(reader, two_quads, Tile(17, 0, 0)).any()


def test_color_infrared_is_near_infrared_red_green(reader: Reader, two_quads: World) -> None:
    tile = tile_in(two_quads, 18)
    rgb, cir = (shown(reader, two_quads, tile, style) for style in ("rgb", "cir"))
    assert (cir[..., 1] == rgb[..., 0]).all()
    assert (cir[..., 2] == rgb[..., 1]).all()
    off = np.abs(cir[..., 0].astype(int) - ground(*under(tile))[3])
    assert np.median(off) <= 2


def test_the_vegetation_index_is_green_where_near_infrared_exceeds_red(
    reader: Reader, two_quads: World
) -> None:
    tile = tile_in(two_quads, 18)
    image = shown(reader, two_quads, tile, "ndvi").astype(int)
    red, _, _, infrared = ground(*under(tile)).astype(int)
    green = image[..., 1] - image[..., 0]
    assert (green[infrared - red > 60] > 0).mean() > 0.9
    assert (green[red - infrared > 60] < 0).mean() > 0.9


def test_a_year_shows_its_own_imagery(reader: Reader, two_years: World) -> None:
    older, newer = two_years.scenes
    tile = tile_in(two_years, 18)
    for year, scene in ((2017, older), (2019, newer), (None, newer)):
        image = shown(reader, two_years, tile, "rgb", year)
        off = np.abs(
            image[..., :3].astype(int) - np.moveaxis(ground(*under(tile), scene.year)[:3], 0, -1)
        )
        assert np.median(off) <= 2
        assert (off > 15).mean() < 0.12


def test_where_two_zones_meet_there_is_no_hole(reader: Reader, utm_seam: World) -> None:
    lat = utm_seam.scenes[0].lonlat[1]
    for address in tiles_around(-84.0, lat, 18):
        assert (shown(reader, utm_seam, Tile(*address))[..., 3] == 255).all()


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("webp", "WEBP"), ("jpg", "JPEG")])
def test_a_picture_survives_its_encoding(
    reader: Reader, two_quads: World, suffix: str, kind: str
) -> None:
    image = shown(reader, two_quads, tile_in(two_quads, 18)).copy()
    image[:64] = 0
    read = Image.open(io.BytesIO(encode(image, suffix)))
    assert read.format == kind
    back = np.asarray(read.convert("RGBA")).astype(int)
    if suffix == "png":
        assert (back == image).all()
        return
    if suffix == "jpg":
        assert (back[:56, :, :3] > 245).all()
    else:
        assert (back[..., 3] == image[..., 3]).all()
    assert np.abs(back[72:, :, :3] - image[72:, :, :3]).mean() < 12
