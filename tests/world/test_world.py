"""The made world keeps its promises, so that a failing test elsewhere speaks of the code."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import certifi
import numpy as np
import pytest
import rasterio
import rasterio.warp
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from app.imagery import gdal
from tests.conftest import FOREIGN
from tests.world import graphs, ground
from tests.world.world import World


def test_the_ground_is_one_whatever_array_it_is_computed_in() -> None:
    whole = ground.on_grid(502_000, 6_352_000, 300, 200)
    part = ground.on_grid(502_117, 6_352_031, 7, 1)
    assert np.array_equal(part, whole[:, 31:32, 117:124])


def test_the_ground_is_never_nodata() -> None:
    image = ground.on_grid(502_000, 6_352_000, 1000, 1000)
    assert image.min() > 0
    assert image.max() < 255


def test_some_of_the_ground_changes_from_year_to_year() -> None:
    older = ground.classes_on_grid(502_000, 6_352_000, 1000, 1000, year=2017)
    newer = ground.classes_on_grid(502_000, 6_352_000, 1000, 1000, year=2019)
    assert 0.2 < (older != newer).mean() < 0.5


def test_every_class_of_ground_is_told_by_its_pixel_alone(two_quads: World) -> None:
    for scene in two_quads.scenes:
        classes = graphs.classes_by_hand("pixelwise", scene.image())
        assert np.array_equal(classes, scene.classes())


@pytest.mark.parametrize("kind", ["pixelwise", "neighborhood"])
def test_every_class_has_its_share_of_a_scene(kind: graphs.Kind, two_quads: World) -> None:
    classes = graphs.classes_by_hand(kind, two_quads.scenes[0].image())
    shares = np.bincount(classes.ravel(), minlength=7) / classes.size
    assert shares[0] == 0
    assert all(0.1 < share < 0.25 for share in shares[1:])


@pytest.mark.parametrize("kind", ["pixelwise", "neighborhood"])
def test_the_answer_by_hand_is_rarely_in_doubt(kind: graphs.Kind, two_quads: World) -> None:
    probabilities = graphs.probabilities_by_hand(kind, two_quads.scenes[0].image())
    assert graphs.decided(probabilities).mean() > 0.99


def test_overlapping_scenes_agree_where_they_overlap(two_quads: World) -> None:
    west, east = two_quads.scenes
    right, down = round(east.left - west.left), round(west.top - east.top)
    here = west.image()[:, down:, right:]
    assert here.shape == (4, 1100, 200)
    assert np.array_equal(here, east.image()[:, :1100, :200])


@pytest.mark.parametrize(
    "place", ["two_quads", "alpha_quads", "collar_quads", "two_years", "utm_seam"]
)
def test_a_scene_file_holds_the_ground(place: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(place)
    for scene in world.scenes:
        with rasterio.open(scene.path) as dataset:
            assert np.array_equal(dataset.read(), scene.image())
            assert dataset.bounds == pytest.approx(scene.bounds)
            assert dataset.crs.to_epsg() == scene.epsg
            assert dataset.overviews(1) == [2, 4, 8]


def test_the_fourth_band_is_alpha_only_where_asked(two_quads: World, alpha_quads: World) -> None:
    for plain, alpha in zip(two_quads.scenes, alpha_quads.scenes, strict=True):
        with rasterio.open(plain.path) as file:
            assert file.colorinterp[3] == ColorInterp.undefined
        with rasterio.open(alpha.path) as file:
            assert file.colorinterp[3] == ColorInterp.alpha


def test_a_collar_is_black_and_turned(collar_quads: World) -> None:
    for scene in collar_quads.scenes:
        valid = scene.valid()
        assert np.array_equal(scene.image().any(axis=0), valid)
        assert 0.8 < valid.mean() < 0.95
        assert not np.array_equal(valid[600], valid[100])
        assert np.array_equal(valid, valid[::-1, ::-1])


def test_the_fine_scenes_cover_the_same_ground(fine_quads: World, two_quads: World) -> None:
    for fine, plain in zip(fine_quads.scenes, two_quads.scenes, strict=True):
        assert fine.bounds == pytest.approx(plain.bounds)
        with rasterio.open(fine.path) as dataset:
            assert dataset.res == pytest.approx((0.6, 0.6))


def test_the_seam_scenes_meet_in_two_zones(utm_seam: World) -> None:
    west, east = utm_seam.scenes
    assert (west.epsg, east.epsg) == (26916, 26917)
    assert west.lonlat[0] < -84 < east.lonlat[0]
    assert west.lonlat[1] == pytest.approx(east.lonlat[1], abs=1e-3)
    with rasterio.open(west.path) as first, rasterio.open(east.path) as second:
        assert rasterio.warp.transform_bounds(first.crs, 4326, *first.bounds)[2] > -84
        assert rasterio.warp.transform_bounds(second.crs, 4326, *second.bounds)[0] < -84


def test_bad_files_are_bad_each_in_its_way(bad_files: dict[str, Path]) -> None:
    with rasterio.open(bad_files["three_band"]) as dataset:
        assert dataset.count == 3
    with rasterio.open(bad_files["uint16"]) as dataset:
        assert set(dataset.dtypes) == {"uint16"}
    with rasterio.open(bad_files["vrt"]) as dataset:
        assert dataset.driver == "VRT"
        assert dataset.read().all()
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(bad_files["ungeoreferenced"]) as file:
        assert file.crs is None
    with rasterio.open(bad_files["truncated"]) as dataset, pytest.raises(RasterioIOError):
        dataset.read()
    for kind in ("empty", "text"):
        with pytest.raises(RasterioIOError):
            rasterio.open(bad_files[kind])


def test_nobody_leaves_the_machine() -> None:
    for connect in (socket.socket.connect, socket.socket.connect_ex):
        with socket.socket() as outside, pytest.raises(RuntimeError, match="only loopback"):
            connect(outside, ("192.0.2.1", 80))


def test_loopback_is_open() -> None:
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())


def test_the_environment_is_clean() -> None:
    """But for what a server of this session has set itself (a module's server outlives a test), and
    what pyogrio sets when it is imported, and the engine that tests run."""
    ours = {
        *gdal.KNOBS.items(),
        ("GDAL_CACHEMAX", "64"),
        ("GDAL_CURL_CA_BUNDLE", certifi.where()),
        ("LANDCOVER_ENGINE", "onnxruntime"),
    }
    foreign = {n: v for n, v in os.environ.items() if n.startswith(FOREIGN)}
    assert foreign.items() <= ours
