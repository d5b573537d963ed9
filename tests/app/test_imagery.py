"""Reading scenes: the pixels are the ground's, wherever they come from, or it is an error."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio

from app.errors import SourceUnavailable
from app.grid.pixel_grid import NORTH, PixelGrid
from app.imagery import gdal, mosaic
from app.imagery.reader import OPEN_PER_THREAD, Pixels, Reader
from app.imagery.scene import ReadOptions, Scene, acquired_of, identity_of, inspect
from model.windows import Window
from tests.world.ground import on_grid
from tests.world.scenes import SyntheticScene, write_bad_file, write_scene
from tests.world.world import World

with rasterio.Env() as env:
    # Every driver is there, before the application leaves some out: the reader must not need that.
    DRIVERS = env.drivers()

GRID = PixelGrid("EPSG:26916")
ORIGIN = (502_700.0, 3_648_600.0)
CORNER = (502_700, 6_351_400)
"""Work-grid pixel (col, row) of the upper-left corner of `ORIGIN`."""


@pytest.fixture(autouse=True)
def _configured() -> None:
    gdal.configure()


def scene_of(made: SyntheticScene, **changes: object) -> Scene:
    scene = inspect(made.path, ReadOptions())
    return replace(scene, **changes) if changes else scene  # type: ignore[arg-type]


def extent_of(scene: Scene, grid: PixelGrid = GRID) -> Window:
    extent = scene.extent(grid)
    assert extent is not None
    return extent


def windows_in(extent: Window, count: int, seed: int) -> list[Window]:
    """Random windows inside, the whole one and the four corners among them."""
    draw = random.Random(seed)
    windows = [extent]
    for col, row in itertools.product((0, 1), (0, 1)):
        left, top = extent.col + col * (extent.cols - 9), extent.row + row * (extent.rows - 7)
        windows.append(Window(left, top, 9, 7))
    for _ in range(count):
        cols, rows = draw.randint(1, extent.cols), draw.randint(1, extent.rows)
        left = draw.randint(extent.col, extent.col_stop - cols)
        top = draw.randint(extent.row, extent.row_stop - rows)
        windows.append(Window(left, top, cols, rows))
    return windows


class Counting(Reader):
    """A reader that remembers which scenes it was to read."""

    def __init__(self) -> None:
        super().__init__()
        self.requested: list[str] = []

    def read(self, scene: Scene, grid: PixelGrid, window: Window) -> Pixels:
        self.requested.append(scene.id)
        return super().read(scene, grid, window)


@pytest.mark.parametrize("overviews", [True, False])
@pytest.mark.parametrize("alpha", [True, False])
def test_at_native_resolution_every_window_is_the_ground_itself(
    tmp_path: Path, overviews: bool, alpha: bool
) -> None:
    made = write_scene(
        tmp_path / "a.tif", cols=700, rows=530, overviews=overviews, alpha_band4=alpha
    )
    scene, reader = scene_of(made), Reader()
    extent = extent_of(scene)
    assert extent == Window(*CORNER, 700, 530)
    for window in windows_in(extent, 25, 1):
        pixels = reader.read(scene, GRID, window)
        assert pixels.valid.all()
        assert (pixels.image == on_grid(window.col, window.row, window.cols, window.rows)).all()


@pytest.mark.parametrize("east", [0.2, 0.5, 0.8, 1.5])
@pytest.mark.parametrize("north", [0.0, -0.3, 0.5, 0.7])
def test_a_scene_off_the_grid_is_moved_as_a_whole_by_half_a_pixel_at_most(
    tmp_path: Path, east: float, north: float
) -> None:
    made = write_scene(
        tmp_path / "a.tif",
        origin=(ORIGIN[0] + east, ORIGIN[1] + north),
        cols=90,
        rows=70,
        overviews=False,
    )
    scene, reader = scene_of(made), Reader()
    extent = extent_of(scene)
    assert extent.cols >= 89
    assert extent.rows >= 69
    whole = reader.read(scene, GRID, extent).image
    assert whole.shape == (4, *extent.shape)
    first_col, first_row = next(
        (col, row)
        for col, row in itertools.product(range(2), range(2))
        if (whole == made.image()[:, row:, col:][:, : extent.rows, : extent.cols]).all()
    )
    assert abs(extent.col - first_col - made.left) <= 0.5 + 1e-6
    assert abs(NORTH - extent.row + first_row - made.top) <= 0.5 + 1e-6
    for window in windows_in(extent, 25, 2):
        part = reader.read(scene, GRID, window).image
        assert (part == whole[(slice(None), *window.slices_in(extent))]).all()


@pytest.mark.parametrize("overviews", [True, False])
def test_finer_imagery_is_averaged_over_the_area_of_each_pixel(
    tmp_path: Path, overviews: bool
) -> None:
    made = write_scene(tmp_path / "a.tif", cols=400, rows=300, resolution=0.6, overviews=overviews)
    scene, reader = scene_of(made), Reader()
    extent = extent_of(scene)
    assert extent == Window(*CORNER, 240, 180)
    image = made.image().astype(float)
    for window in windows_in(extent, 15, 3):
        pixels = reader.read(scene, GRID, window)
        across = weights((window.col - CORNER[0]) / 0.6, window.cols, 400)
        down = weights((window.row - CORNER[1]) / 0.6, window.rows, 300)
        expected = np.einsum("yr,brc,xc->byx", down, image, across, optimize=True)
        assert pixels.valid.all()
        assert np.abs(pixels.image - expected).max() <= 1


@pytest.mark.parametrize("overviews", [True, False])
@pytest.mark.parametrize("meters", [0.3, 0.5, 0.6, 1.5, 2.0])
def test_a_resampled_pixel_is_the_same_in_every_block_and_nearly_in_every_window(
    tmp_path: Path, meters: float, overviews: bool
) -> None:
    side = int(900 / meters)
    made = write_scene(
        tmp_path / "a.tif", cols=side, rows=side, resolution=meters, overviews=overviews
    )
    scene, reader = scene_of(made), Reader()
    extent = extent_of(scene)
    whole = reader.read(scene, GRID, extent).image
    inner = (slice(None), slice(2, -2), slice(2, -2))
    # Interpolation of coarser pixels sees no further than the window's own edge. Elsewhere GDAL's
    # average may round a tie the other way; what is classified is always read in the same window.
    for window in windows_in(extent, 6, 8)[1:]:
        part = reader.read(scene, GRID, window).image[inner].astype(int)
        assert np.abs(part - whole[(slice(None), *window.slices_in(extent))][inner]).max() <= 1
    first, second = (
        reader.read(scene, GRID, Window(extent.col + east, extent.row + 9, 520, 520)).image[inner]
        for east in (0, 256)
    )
    assert (first[:, :, 256:] == second[:, :, : first.shape[2] - 256]).all()


def weights(
    first: float, count: int, pixels: int, ratio: float = 1 / 0.6
) -> npt.NDArray[np.float64]:
    """(count, pixels): the share of each scene pixel in each grid pixel along one axis."""
    start = first + np.arange(count)[:, None] * ratio
    pixel = np.arange(pixels)[None, :]
    shared = np.minimum(start + ratio, pixel + 1) - np.maximum(start, pixel)
    result: npt.NDArray[np.float64] = np.maximum(shared, 0) / ratio
    return result


@pytest.mark.parametrize("resolution", [1.0, 0.6])
def test_a_collar_is_not_valid(tmp_path: Path, resolution: float) -> None:
    made = write_scene(
        tmp_path / "a.tif", cols=400, rows=300, resolution=resolution, collar=20, skew=15
    )
    scene = scene_of(made)
    extent = extent_of(scene)
    valid = Reader().read(scene, GRID, extent).valid
    if resolution == 1:
        assert (valid == made.valid()).all()
        return
    share = np.einsum(
        "yr,rc,xc->yx",
        weights(0, extent.rows, 300),
        made.valid().astype(float),
        weights(0, extent.cols, 400),
        optimize=True,
    )
    assert not valid[share < 1 - 1e-9].any()
    pure = np.pad(share >= 1 - 1e-9, 3, mode="edge")
    deep = np.ones(valid.shape, dtype=bool)
    for down, right in itertools.product(range(7), range(7)):
        deep &= pure[down : down + extent.rows, right : right + extent.cols]
    assert deep.sum() > 10_000
    assert valid[deep].all()


def test_the_nodata_of_a_file_is_its_own_and_not_zero(tmp_path: Path) -> None:
    made = write_scene(tmp_path / "a.tif", cols=60, rows=50, nodata=255, collar=5, overviews=False)
    assert Reader().read(scene_of(made), GRID, Window(*CORNER, 60, 50)).valid.all()


def test_a_reader_keeps_no_more_files_open_than_it_may(tmp_path: Path) -> None:
    reader = Reader()
    scenes = [
        scene_of(write_scene(tmp_path / f"{i}.tif", cols=20, rows=20, overviews=False))
        for i in range(OPEN_PER_THREAD + 3)
    ]
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for scene in scenes * 2:
        reader.read(scene, GRID, Window(*CORNER, 20, 20))
    assert len(list(descriptors.iterdir())) - before <= OPEN_PER_THREAD


def vanished(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def written_anew(path: Path) -> None:
    made = write_scene(path, cols=300, rows=260, year=2019, overviews=False)
    os.utime(made.path, ns=(1, 1))


def cut_unnoticed(path: Path) -> None:
    stat = path.stat()
    size = stat.st_size
    path.write_bytes(path.read_bytes()[: size // 3] + bytes(size - size // 3))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def now_a_vrt_unnoticed(path: Path) -> None:
    stat = path.stat()
    text = write_bad_file(path.parent / "elsewhere.tif", "vrt").read_bytes()
    path.write_bytes(text + b" " * (stat.st_size - len(text)))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("open_before", [True, False])
@pytest.mark.parametrize("change", [vanished, cut, written_anew])
def test_a_file_that_is_not_what_it_was_is_unavailable(
    tmp_path: Path, change: Callable[[Path], None], open_before: bool
) -> None:
    made = write_scene(tmp_path / "a.tif", cols=300, rows=260, overviews=False)
    scene, reader = scene_of(made), Reader()
    window = Window(*CORNER, 300, 260)
    if open_before:
        reader.read(scene, GRID, window)
    change(made.path)
    for _ in range(2):
        with pytest.raises(SourceUnavailable) as refusal:
            reader.read(scene, GRID, window)
        assert refusal.value.scene_id == "a"
        assert str(tmp_path) not in str(refusal.value)


@pytest.mark.parametrize("change", [cut_unnoticed, now_a_vrt_unnoticed])
def test_a_file_that_cannot_be_read_is_unavailable(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    made = write_scene(tmp_path / "a.tif", cols=300, rows=260, overviews=False)
    scene = scene_of(made)
    change(made.path)
    assert "VRT" in DRIVERS
    assert identity_of(made.path) == scene.identity
    with pytest.raises(SourceUnavailable, match="scene a: the file is damaged"):
        Reader().read(scene, GRID, Window(*CORNER, 300, 260))


NAMES = {
    "m_3208601_nw_16_1_20170903": "2017-09-03",
    "m_4208701_ne_16_060_20200902": "2020-09-02",
    "m_3408501_SE_16_h_20130514_20131021": "2013-05-14",
    "M_3208601_NW_16_1_20170903_20171201": "2017-09-03",
    "m_3208601_nw_16_.6_20190921": "2019-09-21",
    "m_3208601_nw_16_1_20171399": "2017",
    "naip_2015_county": "2015",
    "2011-to-2013": "2013",
    "ortho": "",
    "tile_12345678": "",
    "m_3208601_nw_16_1": "",
    "x20170903": "",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_date_is_in_the_name(name: str) -> None:
    assert acquired_of(name) == NAMES[name]


# ---- several scenes as one -----------------------------------------------------------------------


def ranks(scene: Scene, window: Window) -> tuple[object, ...]:
    """The documented order, said once more: smaller comes first."""
    left, bottom, right, top = scene.bounds
    west, north = window.col, NORTH - window.row
    east, south = west + window.cols, north - window.rows
    whole = left <= west and bottom <= south and right >= east and top >= north
    x, y = window.col + window.cols // 2, NORTH - window.row - window.rows // 2
    inward = min(x - left, right - x, y - bottom, top - y)
    newest = [-ord(char) for char in scene.acquired]
    return (-scene.year, not whole, newest, scene.resolution, -inward, scene.id)


def random_scenes(draw: random.Random, count: int) -> list[Scene]:
    """Scenes around (500,000, 4,000,000) that differ in few ways, so that every rule decides."""
    scenes = []
    for number in range(count):
        left, top = 500_000 + draw.choice((-300, 0, 100, 200)), 4_000_000 + draw.choice((0, 100))
        side = draw.choice((900, 1000))
        scenes.append(
            Scene(
                id=f"{draw.choice('abc')}{number}",
                href=str(number),
                crs=GRID.crs,
                bounds=(float(left), float(top - side), float(left + side), float(top)),
                resolution=draw.choice((1.0, 0.5)),
                acquired=draw.choice(("2019-06-01", "2019-07-01", "2017-05-05", "2017", "")),
                nodata=0.0,
                identity="",
            )
        )
    return scenes


def test_the_order_is_the_documented_rule_whatever_order_they_are_found_in() -> None:
    draw = random.Random(11)
    window = Window(500_200, int(NORTH) - 3_999_800, 320, 320)
    for _ in range(60):
        scenes = random_scenes(draw, 9)
        expected = sorted(scenes, key=lambda scene: ranks(scene, window))
        for _ in range(3):
            draw.shuffle(scenes)
            assert list(mosaic.ordered(scenes, GRID, window)) == expected


def test_scenes_that_hold_no_pixel_of_the_window_are_left_out() -> None:
    (scene,) = random_scenes(random.Random(1), 1)
    left, bottom, right, top = (int(edge) for edge in scene.bounds)
    row = int(NORTH) - top
    assert mosaic.ordered([scene], GRID, Window(right - 1, row, 5, 5)) == (scene,)
    assert mosaic.ordered([scene], GRID, Window(right, row, 5, 5)) == ()
    assert mosaic.ordered([scene], GRID, Window(left - 5, row, 5, 5)) == ()
    assert mosaic.ordered([scene], GRID, Window(left, int(NORTH) - bottom, 5, 5)) == ()


def test_one_scene_is_read_where_one_suffices(two_quads: World) -> None:
    west, east = (scene_of(made) for made in two_quads.scenes)
    reader = Counting()
    overlap = Window(504_050, CORNER[1] + 200, 96, 96)
    mixed = mosaic.read(reader, [east, west], GRID, overlap)
    assert reader.requested == [east.id]
    assert mixed.scenes == (east.ref,)
    assert (mixed.pixels.image == on_grid(504_050, overlap.row, 96, 96)).all()


def test_two_scenes_fill_a_window_that_neither_holds(two_quads: World) -> None:
    west, east = (scene_of(made) for made in two_quads.scenes)
    window = Window(503_700, CORNER[1] + 300, 900, 400)
    for order in ([west, east], [east, west]):
        mixed = mosaic.read(Reader(), order, GRID, window)
        assert mixed.scenes == tuple(scene.ref for scene in order)
        assert mixed.pixels.valid.all()
        assert (mixed.pixels.image == on_grid(window.col, window.row, 900, 400)).all()


def test_the_second_scene_fills_what_the_collar_of_the_first_leaves_open(
    collar_quads: World,
) -> None:
    made_west, made_east = collar_quads.scenes
    west, east = scene_of(made_west), scene_of(made_east)
    window = Window(503_900, CORNER[1] + 300, 250, 200)
    mixed = mosaic.read(Reader(), [west, east], GRID, window)
    held = np.zeros(window.shape, dtype=bool)
    for made in (made_west, made_east):
        cols = np.arange(window.cols) + window.col - round(made.left)
        rows = np.arange(window.rows) + window.row - round(NORTH - made.top)
        within = (cols >= 0) & (cols < made.cols)
        held[:, within] |= made.valid()[np.ix_(rows, cols[within])]
    assert (mixed.pixels.valid == held).all()
    assert held.mean() > 0.9
    ground = on_grid(window.col, window.row, window.cols, window.rows)
    assert (mixed.pixels.image == ground * held).all()
    assert mixed.scenes == (west.ref, east.ref)
    alone = mosaic.read(Reader(), [west], GRID, window).pixels.valid
    assert alone.sum() < held.sum()


def test_what_the_first_scene_shows_is_never_painted_over(tmp_path: Path) -> None:
    first = write_scene(tmp_path / "a2019.tif", cols=200, rows=150, year=2019, collar=30)
    second = write_scene(tmp_path / "b2017.tif", cols=200, rows=150)
    window = Window(*CORNER, 200, 150)
    mixed = mosaic.read(Reader(), [scene_of(first), scene_of(second)], GRID, window)
    expected = np.where(first.valid(), first.image(), second.image())
    assert (expected != second.image()).any()
    assert (mixed.pixels.image == expected).all()


def test_where_no_scene_is_nothing_is_valid_and_nothing_is_read(two_quads: World) -> None:
    west = scene_of(two_quads.scenes[0])
    reader = Counting()
    mixed = mosaic.read(reader, [west], GRID, Window(0, 0, 10, 10))
    assert not mixed.pixels.valid.any()
    assert not mixed.pixels.image.any()
    assert mixed.scenes == ()
    assert reader.requested == []


def test_a_hole_that_a_vanished_scene_should_fill_is_an_error(tmp_path: Path) -> None:
    west = write_scene(tmp_path / "w.tif", cols=200, rows=150, overviews=False)
    east = write_scene(
        tmp_path / "e.tif", origin=(ORIGIN[0] + 150, ORIGIN[1]), cols=200, rows=150, overviews=False
    )
    scenes = [scene_of(west), scene_of(east)]
    east.path.unlink()
    with pytest.raises(SourceUnavailable, match="scene e"):
        mosaic.read(Reader(), scenes, GRID, Window(*CORNER, 300, 100))
    alone = mosaic.read(Reader(), scenes, GRID, Window(*CORNER, 200, 100))
    assert alone.scenes == (scenes[0].ref,)
