"""Demo County is one place: the same in every quad, every run; different where years differ."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.features import rasterize, shapes
from rasterio.windows import from_bounds
from shapely.geometry import shape
from shapely.ops import unary_union

from app.demo import files, write_county
from app.demo.county import county, land, trees
from app.demo.files import QUADS
from app.demo.material import Material, class_table
from app.demo.paint import paint
from app.demo.sensor import expose, snap

BUILDING, ROAD, WATER, OPEN, FOREST = range(1, 6)
MEANS = {2013: (117, 131, 122, 159), 2017: (73, 87, 77, 131)}
REAL_CLASS_MEANS = {
    1: ((119, 188), (113, 182), (111, 177), (77, 173)),
    2: ((83, 210), (79, 208), (82, 195), (61, 167)),
    3: ((22, 112), (30, 166), (40, 179), (11, 76)),
    4: ((118, 209), (113, 193), (87, 183), (116, 177)),
    5: ((46, 113), (63, 124), (58, 112), (108, 183)),
    6: ((30, 150), (46, 164), (44, 135), (148, 198)),
}
"""Class → lowest and highest mean of red, green, blue and near infrared among the places and
dates of the real chips (`../shared/data/labels`) that have 1,500 labeled pixels of the class."""
REAL_DARKEST = ((13, 87), (26, 74), (29, 76), (1, 122))
REAL_BRIGHTEST = ((107, 228), (122, 225), (108, 218), (175, 238))
REAL_SPREAD = ((65, 195), (62, 184), (47, 168), (96, 208))
"""Of the same places and dates: the 2nd and the 98th percentile of each band, and what lies
between the two."""

# Writing the county takes about 20 s of one core; on busy ones the first test waits for it.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_county(tmp_path_factory.mktemp("county"))


def truth_of(image: Path) -> Path:
    return image.parents[1] / "truth" / f"{image.stem}_label.tif"


def of_year(images: list[Path], year: int) -> list[Path]:
    return [path for path in images if path.parent.name == str(year)]


def read(path: Path) -> npt.NDArray[np.uint8]:
    with rasterio.open(path) as source:
        return np.asarray(source.read())


def mosaic(images: list[Path], year: int) -> npt.NDArray[np.uint8]:
    """True classes of the whole county, (rows, cols), 0 nowhere."""
    paths = [truth_of(path) for path in of_year(images, year)]
    bounds = []
    for path in paths:
        with rasterio.open(path) as source:
            bounds.append(source.bounds)
    left, top = min(b.left for b in bounds), max(b.top for b in bounds)
    right, bottom = max(b.right for b in bounds), min(b.bottom for b in bounds)
    whole = np.zeros((int(top - bottom), int(right - left)), dtype=np.uint8)
    for path, box in zip(paths, bounds, strict=True):
        truth = read(path)[0]
        row, col = int(top - box.top), int(box.left - left)
        part = whole[row : row + truth.shape[0], col : col + truth.shape[1]]
        np.copyto(part, truth, where=truth > 0)
    return whole


@pytest.mark.slow
def test_every_quad_is_a_naip_like_cog(images: list[Path]) -> None:
    assert len(images) == 8
    for path in images:
        with rasterio.open(path) as source:
            assert source.count == 4
            assert set(source.dtypes) == {"uint8"}
            assert source.crs.to_epsg() == 26916
            assert source.res == (1, 1)
            assert all(edge == int(edge) for edge in source.bounds)
            assert source.block_shapes == [(512, 512)] * 4
            assert source.overviews(1)
            assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert source.colorinterp[:3] == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@pytest.mark.slow
def test_truth_lies_on_the_grid_of_its_image(images: list[Path]) -> None:
    for path in images:
        with rasterio.open(path) as image, rasterio.open(truth_of(path)) as truth:
            assert truth.count == 1
            assert (truth.transform, truth.shape) == (image.transform, image.shape)
            assert truth.crs == image.crs


@pytest.mark.slow
def test_neighbors_tell_the_same_truth_where_they_overlap(images: list[Path]) -> None:
    met = 0
    for year in MEANS:
        for one, other in combinations([truth_of(path) for path in of_year(images, year)], 2):
            with rasterio.open(one) as a, rasterio.open(other) as b:
                shared = (
                    max(a.bounds.left, b.bounds.left),
                    max(a.bounds.bottom, b.bounds.bottom),
                    min(a.bounds.right, b.bounds.right),
                    min(a.bounds.top, b.bounds.top),
                )
                assert shared[2] - shared[0] >= 600
                assert shared[3] - shared[1] >= 600
                seen = a.read(1, window=from_bounds(*shared, a.transform))
                again = b.read(1, window=from_bounds(*shared, b.transform))
            both = (seen > 0) & (again > 0)
            assert both.mean() > 0.8
            assert np.array_equal(seen[both], again[both])
            met += 1
    assert met == 12


@pytest.mark.parametrize("year", MEANS)
@pytest.mark.slow
def test_every_class_covers_at_least_a_sixtieth(images: list[Path], year: int) -> None:
    classes = mosaic(images, year)
    shares = np.bincount(classes[classes > 0], minlength=7) / np.count_nonzero(classes)
    assert shares.size == 7
    assert shares[1:].min() >= 0.015


@pytest.mark.parametrize("year", MEANS)
@pytest.mark.slow
def test_band_means_are_those_of_the_year(images: list[Path], year: int) -> None:
    means = []
    for path in of_year(images, year):
        image = read(path)
        means.append(image[:, image.any(axis=0)].mean(axis=1))
    assert np.mean(means, axis=0) == pytest.approx(MEANS[year], abs=6)


@pytest.mark.parametrize("year", MEANS)
@pytest.mark.slow
def test_brightness_lies_where_that_of_real_naip_lies(images: list[Path], year: int) -> None:
    paths = of_year(images, year)
    pixels = np.concatenate([read(path)[:, ::3, ::3].reshape(4, -1) for path in paths], axis=1)
    classes = np.concatenate([read(truth_of(path))[0, ::3, ::3].ravel() for path in paths])
    dark, bright = np.percentile(pixels[:, classes > 0], (2, 98), axis=1)
    for level, real in ((dark, REAL_DARKEST), (bright, REAL_BRIGHTEST)):
        assert all(low <= one <= high for one, (low, high) in zip(level, real, strict=True)), level
    # Not flatter than the middle of the real places in visible light.
    spread = bright - dark
    for one, (low, high) in zip(spread, REAL_SPREAD, strict=True):
        assert low + 0.3 * (high - low) <= one <= high, spread
    for value, real in REAL_CLASS_MEANS.items():
        means = pixels[:, classes == value].mean(axis=1)
        for one, (low, high) in zip(means, real, strict=True):
            assert low - 0.5 <= one <= high + 0.5, (value, means)


@pytest.mark.parametrize("year", MEANS)
@pytest.mark.slow
def test_every_street_and_parking_lot_leads_to_the_highway(year: int) -> None:
    material = county(year).material
    paved = class_table()[material] == ROAD
    open_way = (paved | (material == Material.DIRT)).astype(np.uint8)
    # A tree that hangs over a lane does not close it.
    ways = [shape(each).buffer(2.5) for each, _ in shapes(open_way, mask=open_way > 0)]
    network = max(unary_union(ways).geoms, key=lambda each: each.area)
    reached = rasterize([network], out_shape=paved.shape).astype(np.bool_)
    assert (paved & reached).sum() / paved.sum() > 0.995


@pytest.mark.slow
def test_one_quad_calls_near_infrared_alpha(images: list[Path]) -> None:
    tagged = []
    for path in images:
        with rasterio.open(path) as source:
            if source.colorinterp[3] == ColorInterp.alpha:
                tagged.append(path)
    assert len(tagged) == 1
    assert read(tagged[0])[3].std() > 20, "it still holds near infrared"


@pytest.mark.slow
def test_one_quad_has_a_collar_without_truth(images: list[Path]) -> None:
    collared = []
    for path in images:
        dark = np.asarray(~read(path).any(axis=0))
        assert np.array_equal(dark, read(truth_of(path))[0] == 0)
        if dark.any():
            collared.append(path)
            widths = dark[dark.shape[0] // 2].sum(), dark[:, dark.shape[1] // 2].sum()
            assert all(30 <= width <= 100 for width in widths)
            with rasterio.open(path) as source:
                assert source.nodata == 0
    assert len(collared) == 1


@pytest.mark.slow
def test_the_years_differ_by_houses_a_pond_and_a_felled_wood(images: list[Path]) -> None:
    before, after = mosaic(images, 2013), mosaic(images, 2017)
    for old, new, least in (
        ((OPEN, 6), (BUILDING,), 5_000),
        ((OPEN, FOREST, 6), (WATER,), 5_000),
        ((FOREST,), (OPEN,), 30_000),
    ):
        changed = np.isin(before, old) & np.isin(after, new)
        assert np.count_nonzero(changed) >= least
    # Years share one ground: what did not change is most of it.
    assert (before == after).mean() > 0.6


@pytest.mark.slow
def test_near_infrared_tells_water_from_leaves(images: list[Path]) -> None:
    for path in images:
        image, classes = read(path), read(truth_of(path))[0]
        infrared = [image[3][classes == value].mean() for value in range(1, 7)]
        assert min(infrared) == infrared[WATER - 1]
        assert infrared[5] > infrared[1] + 20


@pytest.mark.slow
def test_the_same_pixels_come_out_of_every_run(images: list[Path]) -> None:
    land.cache_clear()
    trees.cache_clear()
    year = 2017
    ground = county(year)
    bands = [expose(light, year, band) for band, light in enumerate(paint(ground, land(), year))]
    flight, quad = next((i, q) for i, q in enumerate(QUADS) if q.year == year and q.alpha)
    again = np.stack([snap(b[quad.window], year, flight, i) for i, b in enumerate(bands)])
    assert np.array_equal(again, read(images[flight]))


@pytest.mark.slow
def test_an_intact_county_is_kept(images: list[Path]) -> None:
    folder = images[0].parents[1]
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    heard: list[str] = []
    assert write_county(folder, progress=heard.append) == images
    assert heard == []
    assert stamps == {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_two_who_write_the_county_at_once_write_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def slowly(*_: object) -> None:
        time.sleep(0.2)
        written.append(1)

    monkeypatch.setattr(files, "_write_all", slowly)
    monkeypatch.setattr(files, "_intact", lambda _: bool(written))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write_county, [tmp_path] * 4))
    assert written == [1]
