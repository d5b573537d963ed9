"""What of an image is data: a tag changes nothing, a mask does, at every resolution."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning

from app.grid.pixel_grid import NORTH, PixelGrid, transformer
from app.imagery import gdal
from app.imagery.catalog.files import DirectoryCatalog
from app.imagery.reader import Pixels, Reader, RemoteFiles
from app.imagery.scene import ReadOptions, Scene, UnsupportedImage, inspect
from app.imagery.store.object_store import ObjectStore
from model.windows import Window
from tests.app.conftest import HERE, Serve
from tests.world.range_server import range_server

LEFT, TOP = 503_000.0, 3_648_000.0
SIDE = 240
"""Of each image, meters."""

LAKE = (40.0, 80.0, 130.0, 130.0)
"""Of meters without near infrared: x and y from the upper-left corner, width, height."""

HOLE = (190.0, 44.0, 30.0, 30.0)
"""Of meters where all four bands are 0."""

CRS = {"1 m": (26916, 1.0), "0.6 m": (26916, 0.6), "0.3 m": (26916, 0.3), "degrees": (4326, 1.0)}

Bytes = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def _configured() -> None:
    gdal.configure()


@lru_cache
def placed(kind: str) -> tuple[str, Affine, tuple[int, int], Bytes]:
    """(CRS, affine, shape, image) of gray land with the lake and the hole."""
    epsg, size = CRS[kind]
    if epsg == 26916:
        affine, cols = Affine(size, 0, LEFT, 0, -size, TOP), round(SIDE / size)
        x, y = ((np.arange(cols) + 0.5) * size,) * 2
        east, south = np.meshgrid(x, y)
    else:
        lon, lat = Transformer.from_crs(26916, 4326, always_xy=True).transform(LEFT, TOP)
        affine, cols = Affine(size / 93_400, 0, lon, 0, -size / 110_900, lat), SIDE
        steps = np.arange(cols) + 0.5
        there = np.meshgrid(lon + steps * affine.a, lat + steps * affine.e)
        x, y = Transformer.from_crs(4326, 26916, always_xy=True).transform(*there)
        east, south = x - LEFT, TOP - y
    noise = np.random.default_rng(1).integers(-9, 10, (4, *east.shape))
    image = np.array([120, 110, 100, 150])[:, None, None] + noise
    water = np.array([50, 60, 80, 0])[:, None, None] + noise * np.array([1, 1, 1, 0])[:, None, None]
    image = np.where(within(east, south, LAKE), water, image)
    pixels: Bytes = np.where(within(east, south, HOLE), 0, image).astype(np.uint8)
    return f"EPSG:{epsg}", affine, (cols, cols), pixels


def within(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], box: tuple[float, ...]
) -> npt.NDArray[np.bool_]:
    left, top, width, height = box
    return np.asarray((x > left) & (x < left + width) & (y > top) & (y < top + height))


def write(
    path: Path,
    kind: str,
    *,
    alpha: bool = False,
    nodata: float | None = None,
    overviews: bool = False,
    masked: Bytes | None = None,
    beside: bool = False,
    image: Bytes | None = None,
    compress: str | None = None,
    photometric: str = "RGB",
) -> Path:
    """A scene of that kind. `masked`: its mask, inside the file or `beside` it as `.msk`."""
    crs, affine, (rows, cols), pixels = placed(kind)
    size = {"width": cols, "height": rows, "count": 4, "dtype": "uint8", "nodata": nodata}
    how: dict[str, object] = {"tiled": True, "blockxsize": 128, "blockysize": 128}
    # By default GDAL tags the fourth band of such a file alpha.
    how |= {"interleave": "pixel", "photometric": photometric, "alpha": "NO", "compress": compress}
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not beside),
        rasterio.open(path, "w", driver="GTiff", crs=crs, transform=affine, **size, **how) as file,
    ):
        file.write(pixels if image is None else image)
        if masked is not None:
            file.write_mask(masked)
    if overviews:
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4, 8], Resampling.average)
    if alpha:
        with rasterio.open(path, "r+") as file:
            file.colorinterp = (
                ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha
            )  # fmt: skip
    return path


TAGS: dict[str, dict[str, Any]] = {
    "alpha": {"alpha": True},
    "undefined": {},
    "nodata": {"nodata": 0.0},
}


def reads(scene: Scene, meters: float, reader: Reader | None = None) -> Pixels:
    grid = PixelGrid(scene.crs, meters)
    window = scene.extent(grid)
    assert window is not None
    return (reader or Reader()).read(scene, grid, window)


@pytest.mark.parametrize("overviews", [False, True])
@pytest.mark.parametrize("meters", [1.0, 4.0, 16.0])
@pytest.mark.parametrize("kind", CRS)
def test_a_tag_changes_no_pixel(tmp_path: Path, kind: str, meters: float, overviews: bool) -> None:
    found = {}
    for tag, how in TAGS.items():
        path = write(tmp_path / f"{tag}.tif", kind, overviews=overviews, **how)
        found[tag] = reads(inspect(path, ReadOptions()), meters)
    like = found["undefined"]
    assert like.valid.mean() > 0.85
    lake = middle_of(LAKE, inspect(tmp_path / "alpha.tif", ReadOptions()), meters)
    assert like.valid[lake].all()
    assert np.abs(like.image[:, *lake].mean(axis=(1, 2)) - [50, 60, 80, 0]).max() < 2
    if meters < 4:
        hole = middle_of(HOLE, inspect(tmp_path / "alpha.tif", ReadOptions()), meters)
        assert not like.valid[hole].any()
    for tag, pixels in found.items():
        if overviews and tag == "nodata" and meters > 1:
            continue  # its overviews were made by obeying the tag
        assert (pixels.valid == like.valid).all()
        assert (pixels.image[:, like.valid] == like.image[:, like.valid]).all()


def middle_of(box: tuple[float, ...], scene: Scene, meters: float) -> tuple[slice, slice]:
    """Rows and columns of what is read, well inside a box of meters."""
    left, top, width, height = box
    extent = scene.extent(PixelGrid(scene.crs, meters))
    assert extent is not None
    x, y = transformer("EPSG:26916", scene.crs).transform(LEFT + left, TOP - top)
    col, row = x / meters - extent.col, (NORTH - y) / meters - extent.row
    inner = max(2, 8 / meters)
    return (
        slice(round(row + inner), round(row + height / meters - inner)),
        slice(round(col + inner), round(col + width / meters - inner)),
    )


@pytest.mark.parametrize("kind", ["0.6 m", "0.3 m"])
def test_overviews_made_by_obeying_the_tag_do_not_reach_what_is_classified(
    tmp_path: Path, kind: str
) -> None:
    path = write(tmp_path / "a.tif", kind, alpha=True)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4, 8], Resampling.average)
    with rasterio.open(path, overview_level=0) as overview:
        assert (overview.read() == 0).all(axis=0).mean() > 0.2  # the lake is gone there
    plain = reads(inspect(write(tmp_path / "b.tif", kind), ReadOptions()), 1.0)
    tagged = reads(inspect(path, ReadOptions()), 1.0)
    assert (tagged.valid == plain.valid).all()
    assert (tagged.image == plain.image).all()


@pytest.fixture
def far(tmp_path: Path) -> Iterator[tuple[ObjectStore, str]]:
    """The store of `tmp_path` behind a server, and its address."""
    store = ObjectStore("far", reach=HERE)
    with range_server(tmp_path) as server:
        yield store, server.url("")
    store.close()


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["0.6 m", "degrees"])
@pytest.mark.parametrize("meters", [1.0, 4.0])
def test_far_away_a_tag_changes_no_pixel_either(
    tmp_path: Path, far: tuple[ObjectStore, str], kind: str, meters: float
) -> None:
    store, base = far
    like = reads(inspect(write(tmp_path / "u.tif", kind, overviews=True), ReadOptions()), meters)
    write(tmp_path / "a.tif", kind, overviews=True, alpha=True)
    _, scene = RemoteFiles(store, ReadOptions()).inspect(f"{base}a.tif", None)
    assert isinstance(scene, Scene)
    pixels = reads(scene, meters, Reader({"far": store}))
    assert (pixels.valid == like.valid).all()
    assert (pixels.image == like.image).all()


COLLAR = 32
"""Meters in the north that the mask leaves out."""


def mask_of(kind: str) -> Bytes:
    _, _, shape, _ = placed(kind)
    mask = np.full(shape, 255, dtype=np.uint8)
    mask[: round(COLLAR / CRS[kind][1])] = 0
    return mask


def is_masked(scene: Scene, meters: float, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Where the centers of the pixels read lie in the collar, two pixels around it left out."""
    extent = scene.extent(PixelGrid(scene.crs, meters))
    assert extent is not None
    col, row = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    x, y = (extent.col + col) * meters, NORTH - (extent.row + row) * meters
    if scene.native is None:
        return np.asarray(TOP - y < COLLAR)
    lon, lat = transformer(scene.crs, "OGC:CRS84").transform(x, y)
    _, down = ~Affine(*scene.native.transform) @ (lon, lat)
    return np.asarray(down < COLLAR)


@pytest.mark.parametrize("meters", [1.0, 4.0])
@pytest.mark.parametrize("kind", CRS)
@pytest.mark.parametrize("form", ["lossless", "jpeg", "beside", "white"])
def test_what_a_mask_leaves_out_is_no_data(
    tmp_path: Path, kind: str, form: str, meters: float
) -> None:
    image = placed(kind)[3].copy()
    image[:, mask_of(kind) == 0] = 255 if form == "white" else 7
    path = write(
        tmp_path / "a.tif",
        kind,
        masked=mask_of(kind),
        beside=form == "beside",
        image=image,
        overviews=True,
        compress="jpeg" if form == "jpeg" else None,
        photometric="MINISBLACK" if form == "jpeg" else "RGB",
    )
    scene = inspect(path, ReadOptions())
    pixels = reads(scene, meters)
    collar = is_masked(scene, meters, pixels.valid.shape)
    assert not pixels.valid[collar].any()
    rows = np.flatnonzero(collar.any(axis=1)).max() + 3
    rest = pixels.valid[rows:-2, 2:-2]
    hole = (HOLE[2] + 12) * (HOLE[3] + 12) / meters**2
    assert (~rest).sum() <= hole + 8 * rest.shape[1] * (kind == "degrees")
    inner = pixels.image[:, rows:-2, 2:-2][:, rest]
    assert inner[:3].max() < 160  # nothing of a white collar was mixed in
    assert np.median(inner[0]) > 45


@pytest.mark.alone
def test_far_away_a_mask_is_obeyed(tmp_path: Path, far: tuple[ObjectStore, str]) -> None:
    store, base = far
    path = write(tmp_path / "a.tif", "0.6 m", masked=mask_of("0.6 m"), overviews=True)
    _, scene = RemoteFiles(store, ReadOptions()).inspect(f"{base}a.tif", None)
    assert isinstance(scene, Scene)
    for meters in (1.0, 4.0):
        pixels, like = (
            reads(each, meters, Reader({"far": store}))
            for each in (scene, inspect(path, ReadOptions()))
        )
        assert (pixels.valid == like.valid).all()
        assert not pixels.valid[: int(COLLAR / meters)].any()


def test_an_alpha_band_beyond_the_four_is_obeyed(tmp_path: Path) -> None:
    crs, affine, (rows, cols), image = placed("0.6 m")
    alpha = mask_of("0.6 m")
    size = {"width": cols, "height": rows, "count": 5, "dtype": "uint8"}
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", crs=crs, transform=affine, **size
    ) as file:
        file.write(np.concatenate([np.maximum(image, 1), alpha[None]]))
        colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)
        file.colorinterp = (*colors, ColorInterp.alpha)
    valid = reads(inspect(tmp_path / "a.tif", ReadOptions()), 1.0).valid
    assert not valid[:COLLAR].any()
    assert valid[COLLAR:].all()


def test_a_mask_beside_the_image_that_came_or_went_is_another_image(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", "1 m", masked=mask_of("1 m"), beside=True)
    catalog = DirectoryCatalog(tmp_path, ReadOptions())
    (before,) = catalog.scenes
    (tmp_path / "a.tif.msk").unlink()
    catalog.refresh()
    (after,) = catalog.scenes
    assert before.key != after.key
    assert reads(after, 1.0).valid[:COLLAR].all()
    assert path.exists()


def test_a_mask_beside_the_image_that_is_none_of_it_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", "1 m")
    mask = tmp_path / "a.tif.msk"
    mask.write_bytes(b"nothing")
    with pytest.raises(UnsupportedImage, match=r"mask that cannot be read: a\.tif\.msk"):
        inspect(path, ReadOptions())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            mask, "w", driver="GTiff", width=9, height=9, count=1, dtype="uint8"
        ) as file:
            file.write(np.ones((1, 9, 9), dtype=np.uint8))
    with pytest.raises(UnsupportedImage, match="mask that is not one of all its pixels"):
        inspect(path, ReadOptions())


def test_the_tag_changes_no_class_of_a_client(
    serve: Serve, pixelwise_model: Path, tmp_path: Path
) -> None:
    """Tile, point and statistics of one place, the file tagged in three ways."""
    x, y = LEFT + LAKE[0] + 65, TOP - LAKE[1] - 65
    lon, lat = Transformer.from_crs(26916, 4326, always_xy=True).transform(x, y)
    ring = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    area = {
        "type": "Polygon",
        "coordinates": [[(lon + 3e-4 * dx, lat + 3e-4 * dy) for dx, dy in ring]],
    }
    answers = []
    for tag, how in TAGS.items():
        write(tmp_path / tag / "ortho_2017.tif", "0.6 m", **how)
        with serve(tmp_path / tag, pixelwise_model) as client:
            z, col, row = 17, *_tile_of(lon, lat, 17)
            tile = client.get(f"/tiles/WebMercatorQuad/{z}/{col}/{row}.npy").content
            low = client.get(f"/tiles/WebMercatorQuad/13/{col >> 4}/{row >> 4}.npy").content
            point = client.get(f"/point/{lon},{lat}").json()
            figures = client.post("/statistics", json=area).json()["properties"]["statistics"]
            assert point["class"]["value"] == 3
            assert figures["uncovered"]["m2"] == 0
            answers.append((tile, low, point["class"], figures["classes"]))
    assert answers[0] == answers[1] == answers[2]


def _tile_of(lon: float, lat: float, zoom: int) -> tuple[int, int]:
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(lon, lat)
    edge = 2 * 20037508.342789244 / 2**zoom
    return int((x + 20037508.342789244) / edge), int((20037508.342789244 - y) / edge)


def test_a_scene_wider_than_high_by_a_hair_is_not_moved(tmp_path: Path) -> None:
    """Pixels of 1.008 × 0.992 m: under a percent, and 2 m at the far end of 240 of them."""
    _, _, (rows, cols), image = placed("1 m")
    affine = Affine(1.008, 0, LEFT, 0, -0.992, TOP)
    size = {"width": cols, "height": rows, "count": 4, "dtype": "uint8"}
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", crs="EPSG:26916", transform=affine, **size
    ) as file:
        image = np.full_like(image, 60)
        image[:, :, 220:] = 200
        file.write(image)
    scene = inspect(tmp_path / "a.tif", ReadOptions())
    col, row = int(LEFT), int(NORTH - TOP)
    pixels = Reader().read(scene, PixelGrid("EPSG:26916"), Window(col + 200, row + 9, 40, 40))
    # The bright part begins 221.76 m east of the corner.
    assert (pixels.image[0, :, :21] == 60).all()
    assert (pixels.image[0, :, 23:] == 200).all()


def test_nearest_and_bilinear_are_what_they_say(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", "0.6 m")
    _, _, _, image = placed("0.6 m")
    nearest = reads(inspect(path, ReadOptions(resampling="nearest")), 1.0)
    centers = np.floor((np.arange(240) + 0.5) / 0.6).astype(int)
    assert (nearest.image == image[:, centers[:, None], centers[None, :]]).all()
    bilinear = reads(replace(inspect(path, ReadOptions()), resampling="bilinear"), 1.0)
    at = (np.arange(240) + 0.5) / 0.6
    weights = np.maximum(0, 1 - np.abs(np.arange(400)[None, :] + 0.5 - at[:, None]) * 0.6)
    weights /= weights.sum(axis=1, keepdims=True)
    expected = np.einsum("yr,brc,xc->byx", weights, image.astype(float), weights, optimize=True)
    inner = (slice(3, -3), slice(3, -3))
    off = np.abs(bilinear.image - expected)[:, *inner][:, bilinear.valid[inner]]
    assert off.max() <= 0.51
