"""The land cover in an application of titiler's: the same pixels as from our own addresses."""

from __future__ import annotations

import ast
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fastapi import FastAPI
from PIL import Image
from rasterio.io import MemoryFile
from starlette.testclient import TestClient

pytest.importorskip("titiler.core", reason="needs titiler.core (extra titiler)")

import morecantile
from rasterio.crs import CRS
from rio_tiler.errors import TileOutsideBounds
from titiler.core.dependencies import create_colormap_dependency
from titiler.core.factory import TilerFactory

from app import titiler
from app.errors import InvalidRequest, TooLarge, UnknownName
from app.settings import Settings
from app.titiler import LandCoverReader, Runtime, color_maps
from model.legend import LEGEND, NODATA
from tests.app.conftest import Serve, classes_in, tiles_around
from tests.app.running import until
from tests.snippets import snippet
from tests.world.world import World

# rasterio multiplies its affines as affine 3.1 would rather not.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

AREA = (-86.9700, 32.9660, -86.9650, 32.9690)


@pytest.fixture(scope="module")
def runtime(two_years: World, neighborhood_model: Path) -> Iterator[Runtime]:
    """The runtime that the documented code finds in its environment."""
    made = Runtime(
        Settings.model_validate({"imagery": two_years.directory, "model": neighborhood_model})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(titiler, "_runtime", made)
        yield made
    made.close()


@pytest.fixture(scope="module")
def theirs(runtime: Runtime) -> Iterator[TestClient]:
    """The documented application of fewer than ten statements, running."""
    source = snippet("clients.md", "python", "TilerFactory(")
    assert len(ast.parse(source).body) <= 10
    names: dict[str, Any] = {}
    exec(compile(source, "clients.md", "exec"), names)  # noqa: S102 - our own page
    with TestClient(names["app"]) as client:
        yield client


@pytest.fixture(scope="module")
def ours(two_years: World, neighborhood_model: Path, serve: Serve) -> Iterator[TestClient]:
    """Our own server over the same imagery."""
    with serve(two_years.directory, neighborhood_model) as client:
        yield client


@pytest.fixture(scope="module")
def middle(two_years: World) -> tuple[float, float]:
    return two_years.scenes[0].lonlat


def rgba(content: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))


def get(client: TestClient, path: str, **query: Any) -> bytes:  # noqa: ANN401
    answer = client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.mark.parametrize(
    ("zoom", "size", "layer"),
    [
        (17, 256, "class"),
        (18, 512, "confidence"),
        pytest.param(15, 256, "class", marks=pytest.mark.slow),
    ],
)
def test_every_pixel_of_a_tile_is_ours(
    theirs: TestClient, ours: TestClient, middle: tuple[float, float],
    zoom: int, size: int, layer: str,
) -> None:  # fmt: skip
    seen = set[int]()
    for z, x, y in tiles_around(*middle, zoom, 1 if zoom < 17 else 0):
        place = f"/tiles/WebMercatorQuad/{z}/{x}/{y}"
        query: dict[str, Any] = {"tilesize": size, "year": "2017", "layer": layer}
        expected = classes_in(get(ours, f"{place}.npy", quality="exact", **query), "npy")
        answer = theirs.get(f"{place}.npy", params=query | {"return_mask": False})
        if answer.status_code == 404:
            assert (expected == NODATA).all()
            continue
        values = np.load(io.BytesIO(answer.content))
        assert values.shape == (1, size, size)
        assert (values[0] == expected).all()
        seen |= set(np.unique(expected).tolist())
        mine, other = (
            rgba(get(ours, f"{place}.png", **query)),
            rgba(get(theirs, f"{place}.png", **query)),
        )
        assert (mine[..., 3] == other[..., 3]).all()
        there = mine[..., 3] > 0
        assert (mine[there] == other[there]).all()
    assert NODATA in seen or zoom > 15
    assert layer == "confidence" or seen >= {1, 2, 3, 4, 5, 6}


def test_a_tile_of_confident_pixels_is_ours(
    theirs: TestClient, ours: TestClient, middle: tuple[float, float]
) -> None:
    ((z, x, y),) = tiles_around(*middle, 17, 0)
    place = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy"
    expected = np.load(io.BytesIO(get(ours, place, min_confidence=60, year="2017", tilesize=256)))
    values = get(theirs, place, min_confidence=60, year="2017", tilesize=256, return_mask=False)
    assert (np.load(io.BytesIO(values)) == expected).all()
    assert 0 < (expected == NODATA).mean() < 1


def test_a_geotiff_of_theirs_has_our_classes_nodata_and_place(
    theirs: TestClient, middle: tuple[float, float], ours: TestClient
) -> None:
    ((z, x, y),) = tiles_around(*middle, 16, 0)
    place = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.tif"
    with MemoryFile(get(theirs, place, tilesize=256)) as memory, memory.open() as dataset:
        assert dataset.crs.to_epsg() == 3857
        values, transform = dataset.read(1), dataset.transform
        valid = dataset.read_masks(1) > 0
    with MemoryFile(get(ours, place)) as memory, memory.open() as dataset:
        assert transform.almost_equals(dataset.transform, 1e-6)
        expected = dataset.read(1)
    assert (np.where(valid, values, NODATA) == expected).all()


def test_points_are_ours(theirs: TestClient, ours: TestClient, middle: tuple[float, float]) -> None:
    random = np.random.default_rng(7)
    for _ in range(30):
        lon, lat = np.array(middle) + random.uniform(-0.004, 0.004, 2)
        point = ours.get(f"/point/{lon},{lat}", params={"year": "2017"}).json()
        answer = theirs.get(f"/point/{lon},{lat}", params={"year": "2017"}).json()
        assert answer["values"] == [point["class"]["value"]]
        assert answer["band_descriptions"] == ["class"]
    nowhere = theirs.get("/point/-80,30").json()
    assert nowhere["values"] == [None]


def test_a_bounding_box_in_the_work_grid_is_the_downloads_raster(
    runtime: Runtime, ours: TestClient, middle: tuple[float, float]
) -> None:
    west, south = middle
    box = (west, south, west + 0.003, south + 0.002)
    content = get(ours, f"/bbox/{','.join(map(str, box))}.tif", year="2017")
    with MemoryFile(content) as memory, memory.open() as dataset:
        expected, bounds, crs = dataset.read(1), dataset.bounds, dataset.crs
    with LandCoverReader(year="2017", runtime=runtime) as reader:
        image = reader.part(tuple(bounds), crs, crs, align_bounds_with_dataset=True)
        assert image.crs == crs
        assert tuple(image.bounds) == pytest.approx(tuple(bounds), abs=1e-6)
        shape = {
            "type": "Polygon",
            "coordinates": [[
                [bounds.left, bounds.bottom], [bounds.right, bounds.bottom],
                [bounds.left, bounds.top], [bounds.left, bounds.bottom],
            ]],
        }  # fmt: skip
        half = reader.feature(shape, crs, crs)
    values = image.array.filled(NODATA)[0]
    # A file of a box is cut along the meridians, which are slanted in UTM.
    there = expected != NODATA
    assert there.mean() > 0.95
    assert (values[there] == expected[there]).all()
    inside = ~half.array.mask[0]
    assert 0.45 < inside.mean() < 0.55
    assert (half.array.data[0][inside] == values[inside]).all()


def test_each_pixel_of_a_picture_is_what_a_point_says(
    runtime: Runtime, middle: tuple[float, float]
) -> None:
    """In an equal-area CRS, in degrees, and in a tile matrix set of another CRS."""
    random = np.random.default_rng(11)
    west, south = middle
    box = (west, south, west + 0.003, south + 0.002)
    with LandCoverReader(runtime=runtime) as reader:
        pictures = [
            reader.part(box, CRS.from_epsg(5070)),
            reader.part(box),
            reader.part(box, height=200, width=300),
        ]
    quad = morecantile.tms.get("WGS1984Quad")
    with LandCoverReader(tms=quad, runtime=runtime) as reader:
        tile = quad.tile(*middle, reader.maxzoom)
        pictures.append(reader.tile(tile.x, tile.y, tile.z))
        assert pictures[-1].width == 256
        for image in pictures:
            assert image.metadata["quality"] == "full"
            transform = image.transform
            for _ in range(25):
                row, col = random.integers(0, image.height), random.integers(0, image.width)
                x, y = transform @ (col + 0.5, row + 0.5)
                value = reader.point(x, y, image.crs).array
                assert image.array[0, row, col] is np.ma.masked or not value.mask[0]
                assert image.array.filled(NODATA)[0, row, col] == value.filled(NODATA)[0]


def test_info_statistics_and_preview(theirs: TestClient, runtime: Runtime) -> None:
    info = theirs.get("/info").json()
    assert info["dtype"] == "uint8"
    assert info["nodata_value"] == NODATA
    assert info["band_descriptions"] == [["b1", "class"]]
    assert info["crs"] == "EPSG:26916"
    assert info["years"] == [2017, 2019]
    colors = {int(value): tuple(color) for value, color in info["colormap"].items()}
    assert colors == {value: (*rgb, 255) for value, rgb in LEGEND.colors().items()}
    assert [info["minzoom"], info["maxzoom"]] == list(runtime.services.sources.get(None).zooms)
    tilejson = theirs.get("/WebMercatorQuad/tilejson.json").json()
    assert [tilejson["minzoom"], tilejson["maxzoom"]] == [info["minzoom"], info["maxzoom"]]
    reader = LandCoverReader(runtime=runtime)
    until(lambda: reader.preview(max_size=200).metadata["quality"] == "full")
    picture = reader.preview(max_size=200)
    assert max(picture.width, picture.height) == 200
    valid = picture.array.compressed()
    query = {"categorical": True, "max_size": 200}
    (band,) = theirs.get("/statistics", params=query).json().values()
    counts = dict(zip(band["histogram"][1], band["histogram"][0], strict=True))
    assert counts == {value: (valid == value).sum() for value in np.unique(valid)}
    assert band["valid_pixels"] == valid.size
    assert theirs.get("/preview.png", params={"max_size": 100}).status_code == 200


def test_the_middle_of_a_preview_has_the_classes_of_the_pyramid(runtime: Runtime) -> None:
    """Coarser pictures show the most frequent class of the pixels, as tiles below native zoom."""
    with LandCoverReader(year="2017", runtime=runtime) as reader:
        left, bottom, _, _ = reader.bounds
        box = (left + 300, bottom + 300, left + 300 + 512, bottom + 300 + 512)
        fine = reader.part(box, reader.crs, reader.crs).array.filled(NODATA)[0]
        coarse = reader.part(box, reader.crs, reader.crs, max_size=128).array.filled(NODATA)[0]
    assert (fine.shape, coarse.shape) == ((512, 512), (128, 128))
    groups = fine.reshape(128, 4, 128, 4).transpose(0, 2, 1, 3).reshape(128, 128, 16)
    among = (groups == coarse[..., None]).sum(axis=2)
    assert (among >= 4).mean() > 0.9


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ({"year": "1999"}, 404, "1999"),
        ({"source": "nope"}, 404, "nope"),
        ({"resampling": "bilinear"}, 400, "bilinear"),
        ({"bidx": 2}, 400, "bidx"),
        ({"min_confidence": 101}, 400, "101"),
    ],
)
def test_what_there_is_not_is_refused(
    theirs: TestClient, middle: tuple[float, float], query: dict[str, Any], status: int, text: str
) -> None:
    ((z, x, y),) = tiles_around(*middle, 17, 0)
    answer = theirs.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png", params=query)
    assert answer.status_code == status
    assert text in answer.json()["detail"]


def test_a_source_is_an_id_with_titilers_own_url_parameter(
    runtime: Runtime, two_years: World, middle: tuple[float, float]
) -> None:
    """`TilerFactory(reader=LandCoverReader)`: a path of this machine is no dataset."""
    app = FastAPI()
    maps = create_colormap_dependency(color_maps())
    app.include_router(TilerFactory(reader=LandCoverReader, colormap_dependency=maps).router)
    ((z, x, y),) = tiles_around(*middle, 17, 0)
    place = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png"
    source = runtime.services.sources.get(None).id
    with TestClient(app) as client:
        image = rgba(get(client, place, url=source, colormap_name="nlcd"))
        known = set(LEGEND.colors("nlcd").values())
        assert {tuple(color) for color in image[image[..., 3] > 0][:, :3].tolist()} <= known
        with pytest.raises(UnknownName, match="no source"):
            client.get(place, params={"url": str(two_years.scenes[0].path)})


def test_too_much_and_outside(runtime: Runtime) -> None:
    with LandCoverReader(runtime=runtime) as reader:
        with pytest.raises(TooLarge, match="the limit is 16777216"):
            reader.part((-88, 32, -86, 34))
        with pytest.raises(InvalidRequest, match="bbox"):
            reader.part((-86, 32, -88, 34))
        with pytest.raises(TileOutsideBounds):
            reader.tile(0, 0, 17)
        empty = reader.part((-80.001, 30, -80, 30.001))
        assert empty.array.mask.all()
        masked = reader.part((-88, 32, -86, 34), max_size=64)
        assert masked.array.shape[2] == 64


def test_a_buffer_adds_the_neighbors_pixels(runtime: Runtime, middle: tuple[float, float]) -> None:
    ((z, x, y),) = tiles_around(*middle, 17, 0)
    with LandCoverReader(runtime=runtime) as reader:
        plain = reader.tile(x, y, z).array.filled(NODATA)[0]
        wide = reader.tile(x, y, z, buffer=2, padding=4)
        left = reader.tile(x - 1, y, z).array.filled(NODATA)[0]
    values = wide.array.filled(NODATA)[0]
    assert values.shape == (260, 260)
    assert (values[2:-2, 2:-2] == plain).all()
    assert (values[2:-2, :2] == left[:, -2:]).all()
