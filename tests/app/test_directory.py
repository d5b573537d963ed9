"""The catalog of a directory: what is served, what is refused and why, and what is found where."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from app.errors import ConfigurationError
from app.grid.pixel_grid import PixelGrid
from app.imagery import gdal
from app.imagery.catalog.files import DirectoryCatalog
from app.imagery.catalog.index import Index
from app.imagery.catalog.temporal import LATEST, TemporalFilter
from app.imagery.scene import ReadOptions, Scene, UnsupportedImage, inspect
from tests.app.conftest import Serve, tiles_around
from tests.world.scenes import SyntheticScene, write_scene
from tests.world.world import World

with rasterio.Env() as env:
    # Every driver is there, before the application leaves some out: nothing may depend on that.
    DRIVERS = env.drivers()

NAME = "m_3208601_nw_16_1_20170903.tif"


@pytest.fixture(autouse=True)
def _configured() -> None:
    gdal.configure()


def small(path: Path, **changes: object) -> SyntheticScene:
    options = {"cols": 60, "rows": 50, "overviews": False} | changes
    return write_scene(path, **options)  # type: ignore[arg-type]


def reason_of(path: Path) -> str:
    with pytest.raises(UnsupportedImage) as refusal:
        inspect(path, ReadOptions())
    return str(refusal.value)


def with_transform(path: Path, affine: Affine, crs: str = "EPSG:26916") -> Path:
    small(path)
    with rasterio.open(path, "r+") as dataset:
        dataset.transform, dataset.crs = affine, crs
    return path


REASONS = {
    "three_band": "has 3 bands; red, green, blue and near infrared are needed",
    "uint16": "is uint16; NAIP is uint8",
    "ungeoreferenced": "has no CRS or no place in it",
    "truncated": "is truncated: it has",
    "vrt": "cannot be opened",
    "empty": "cannot be opened",
    "text": "cannot be opened",
}


def test_a_reason_is_known_for_every_kind_of_bad_file(bad_files: dict[str, Path]) -> None:
    assert set(bad_files) == set(REASONS)


@pytest.mark.parametrize("kind", REASONS)
def test_a_bad_file_is_refused_with_its_reason(bad_files: dict[str, Path], kind: str) -> None:
    assert reason_of(bad_files[kind]).startswith(REASONS[kind])


@pytest.mark.parametrize(
    ("affine", "crs", "reason"),
    [
        (Affine(1, 1, 5e5, 1, 1, 4e6), "EPSG:26916", "has pixels of no size"),
        (Affine(1, 0, 5e5, 0, -3.5, 4e6), "EPSG:26916", "has pixels of 1 × 3.5 m, far from square"),
        (Affine(1e-5, 0, -87, 0, -1e-5, 95), "EPSG:4326", "lies outside of where EPSG:4326"),
        (Affine(1e-5, 0, -87, 0, -1e-5, 33), "EPSG:26916", "has pixels of 1e-05 m in EPSG:26916"),
        (Affine(7, 0, 2e6, 0, -7, 7e5), "EPSG:2264", "has pixels of 2.13"),
        (Affine(1e-4, 0, -87, 0, -1e-4, 33), "EPSG:4326", "has pixels of 10.1"),
        (Affine(2.1, 0, 5e5, 0, -2.1, 4e6), "EPSG:26916", "has pixels of 2.1 m; the model needs"),
    ],
)
def test_a_geometry_that_cannot_be_served_is_refused_with_its_reason(
    tmp_path: Path, affine: Affine, crs: str, reason: str
) -> None:
    assert reason_of(with_transform(tmp_path / "a.tif", affine, crs)).startswith(reason)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert reason_of(tmp_path / "gone.tif") == "cannot be opened: No such file or directory"


@pytest.mark.parametrize("meters", [0.3, 0.6, 1.0, 2.0])
def test_pixels_of_up_to_twice_the_models_are_served(tmp_path: Path, meters: float) -> None:
    scene = inspect(small(tmp_path / "a.tif", resolution=meters).path, ReadOptions())
    assert scene.resolution == pytest.approx(meters)


def test_a_scene_is_what_its_file_says(two_quads: World) -> None:
    for made in two_quads.scenes:
        scene = inspect(made.path, ReadOptions())
        assert scene.id == made.path.stem
        assert scene.href == str(made.path)
        assert scene.crs == "EPSG:26916"
        assert scene.bounds == made.bounds
        assert scene.acquired == "2017-09-03"
        assert scene.year == 2017
        assert scene.nodata == 0


def test_the_date_is_taken_from_the_file_where_its_name_has_none(tmp_path: Path) -> None:
    path = small(tmp_path / "ortho.tif").path
    assert inspect(path, ReadOptions()).year == 0
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(TIFFTAG_DATETIME="2018:05:06 10:00:00")
    assert inspect(path, ReadOptions()).acquired == "2018-05-06"


def test_a_footprint_encloses_its_ground_and_no_more(two_quads: World) -> None:
    made = two_quads.scenes[0]
    footprint = inspect(made.path, ReadOptions()).footprint()
    left, bottom, right, top = made.bounds
    project = Transformer.from_crs(26916, 4326, always_xy=True).transform
    draw = random.Random(3)
    for _ in range(300):
        x = draw.uniform(left - 300, right + 300)
        y = draw.uniform(bottom - 300, top + 300)
        if min(abs(x - left), abs(x - right), abs(y - bottom), abs(y - top)) < 0.5:
            continue
        inside = left < x < right and bottom < y < top
        assert footprint.contains(shapely.Point(project(x, y))) == inside


def test_nothing_is_read_through_a_vrt_that_is_named_tif(
    bad_files: dict[str, Path], tmp_path: Path
) -> None:
    good = small(tmp_path / "elsewhere" / "private.dat")
    imagery = tmp_path / "imagery"
    small(imagery / NAME)
    text = bad_files["vrt"].read_text()
    shown = str(bad_files["vrt"].with_suffix(".dat"))
    assert shown in text
    (imagery / "a.tif").write_text(text.replace(shown, str(good.path)))
    os.utime(good.path, ns=(0, good.path.stat().st_mtime_ns))
    assert "VRT" in DRIVERS
    index = DirectoryCatalog(imagery, ReadOptions()).index
    assert [scene.id for scene in index.scenes] == [Path(NAME).stem]
    assert [problem.path for problem in index.skipped] == ["a.tif"]
    assert str(good.path) not in index.skipped[0].reason
    assert good.path.stat().st_atime_ns == 0


def test_bad_files_are_named_and_the_others_served(
    bad_files: dict[str, Path], tmp_path: Path
) -> None:
    small(tmp_path / "deep" / "er" / NAME)
    small(tmp_path / "UPPER.TIF")
    small(tmp_path / "long.tiff")
    (tmp_path / "notes.txt").write_text("not imagery")
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "nowhere.tif").symlink_to(tmp_path / "gone.tif")
    for kind, path in bad_files.items():
        shutil.copy(path, tmp_path / f"{kind}.tif")
    index = DirectoryCatalog(tmp_path, ReadOptions()).index
    assert [scene.id for scene in index.scenes] == ["UPPER", "long", Path(NAME).stem]
    named = {problem.path for problem in index.skipped}
    assert named >= {f"{kind}.tif" for kind in bad_files} | {"nowhere.tif"}
    assert named <= {f"{kind}.tif" for kind in bad_files} | {"nowhere.tif", "folder.tif"}


def test_files_of_one_name_have_ids_of_their_own_that_do_not_change(tmp_path: Path) -> None:
    for folder in ("b", "a", "c"):
        small(tmp_path / folder / NAME)
    ids = {scene.href: scene.id for scene in DirectoryCatalog(tmp_path, ReadOptions()).index.scenes}
    assert len(set(ids.values())) == 3
    assert ids[str(tmp_path / "a" / NAME)] == Path(NAME).stem
    again = {
        scene.href: scene.id for scene in DirectoryCatalog(tmp_path, ReadOptions()).index.scenes
    }
    assert again == ids


def test_one_file_is_a_source_too(tmp_path: Path) -> None:
    made = small(tmp_path / NAME)
    small(tmp_path / "other.tif")
    assert [scene.href for scene in DirectoryCatalog(made.path, ReadOptions()).index.scenes] == [
        str(made.path)
    ]


def test_a_missing_directory_cannot_be_served(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere: no such directory"):
        DirectoryCatalog(tmp_path / "nowhere", ReadOptions())


def test_a_directory_without_imagery_cannot_be_served(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not imagery")
    with pytest.raises(ConfigurationError, match="no GeoTIFF in it"):
        DirectoryCatalog(tmp_path, ReadOptions())


def test_a_directory_of_bad_files_cannot_be_served_and_they_are_named(
    bad_files: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copy(bad_files["three_band"], tmp_path / "odd.tif")
    with pytest.raises(ConfigurationError, match=r"odd\.tif: has 3 bands"):
        DirectoryCatalog(tmp_path, ReadOptions())


# ---- search --------------------------------------------------------------------------------------


def random_scenes(draw: random.Random, count: int) -> list[Scene]:
    scenes = []
    for number in range(count):
        left, top = draw.uniform(4e5, 6e5), draw.uniform(3.5e6, 3.7e6)
        wide, tall = draw.uniform(5e3, 3e4), draw.uniform(5e3, 3e4)
        scenes.append(
            Scene(
                id=f"s{draw.random()}",
                href=str(number),
                crs=draw.choice(("EPSG:26916", "EPSG:26917")),
                bounds=(left, top - tall, left + wide, top),
                resolution=1.0,
                acquired=draw.choice(("2015-05-05", "2017-01-01", "2019", "")),
                nodata=0.0,
                identity="",
            )
        )
    return scenes


def test_a_search_finds_what_a_look_at_every_scene_finds() -> None:
    draw = random.Random(17)
    scenes = random_scenes(draw, 150)
    index = Index(scenes)
    matches = 0
    for _ in range(300):
        left, bottom = draw.uniform(4e5, 6e5), draw.uniform(3.5e6, 3.7e6)
        box = (left, bottom, left + draw.uniform(1, 4e4), bottom + draw.uniform(1, 4e4))
        for crs, year in itertools.product(
            ("EPSG:26916", "EPSG:26917", "EPSG:26918"), (None, 2015, 2019, 2020)
        ):
            expected = {
                scene.id
                for scene in scenes
                if scene.crs == crs
                and (year is None or scene.year == year)
                and scene.bounds[0] < box[2]
                and scene.bounds[2] > box[0]
                and scene.bounds[1] < box[3]
                and scene.bounds[3] > box[1]
            }
            found = index.search(crs, box, LATEST if year is None else TemporalFilter.of_year(year))
            assert len(found) == len(expected)
            assert {scene.id for scene in found} == expected
            matches += bool(found)
    assert matches > 200


def test_a_search_answers_in_one_order_whatever_order_the_scenes_came_in() -> None:
    draw = random.Random(19)
    scenes = random_scenes(draw, 60)
    everywhere = (0.0, 0.0, 1e6, 1e7)
    first = Index(scenes).search("EPSG:26916", everywhere)
    assert len(first) > 20
    for _ in range(3):
        draw.shuffle(scenes)
        assert Index(scenes).search("EPSG:26916", everywhere) == first


def test_years_are_those_of_the_scenes_and_unknown_ones_are_none(two_years: World) -> None:
    index = DirectoryCatalog(two_years.directory, ReadOptions()).index
    assert index.years == (2017, 2019)
    assert Index([replace(index.scenes[0], acquired="")]).years == ()


def test_the_bounds_in_degrees_enclose_every_scene_tightly(utm_seam: World) -> None:
    west, south, east, north = DirectoryCatalog(
        utm_seam.directory, ReadOptions()
    ).index.lonlat_bounds
    lon, lat = [], []
    for made in utm_seam.scenes:
        left, bottom, right, top = made.bounds
        project = Transformer.from_crs(made.epsg, 4326, always_xy=True).transform
        for x, y in itertools.product((left, right), (bottom, top)):
            at = project(x, y)
            lon.append(at[0])
            lat.append(at[1])
    expected = (min(lon), min(lat), max(lon), max(lat))
    assert (west, south, east, north) == pytest.approx(expected, abs=1e-5)


def test_there_is_one_grid_for_every_crs(utm_seam: World, two_quads: World) -> None:
    assert DirectoryCatalog(utm_seam.directory, ReadOptions()).grids() == (
        PixelGrid("EPSG:26916"),
        PixelGrid("EPSG:26917"),
    )
    assert DirectoryCatalog(two_quads.directory, ReadOptions(0.6)).grids() == (
        PixelGrid("EPSG:26916", 0.6),
    )


# ---- refresh -------------------------------------------------------------------------------------


def test_a_refresh_of_the_same_files_changes_nothing_and_opens_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(tmp_path / NAME)
    (tmp_path / "bad.tif").write_text("no image")
    directory = DirectoryCatalog(tmp_path, ReadOptions())
    before = directory.index

    def opened(*_: object) -> Scene:
        raise AssertionError("a file that has not changed was opened")

    monkeypatch.setattr("app.imagery.catalog.files.inspect", opened)
    directory.refresh()
    assert directory.index is before
    assert directory.generation == 0


def test_a_refresh_finds_new_files_drops_vanished_ones_and_renews_changed_ones(
    tmp_path: Path,
) -> None:
    small(tmp_path / "kept.tif")
    changed = small(tmp_path / "changed.tif").path
    vanished = small(tmp_path / "vanished.tif").path
    directory = DirectoryCatalog(tmp_path, ReadOptions())
    before = {scene.id: scene for scene in directory.index.scenes}
    vanished.unlink()
    small(changed, year=2019, cols=70)
    small(tmp_path / "new.tif")
    directory.refresh()
    after = {scene.id: scene for scene in directory.index.scenes}
    assert set(after) == {"kept", "changed", "new"}
    assert after["kept"] == before["kept"]
    assert after["changed"].identity != before["changed"].identity
    assert after["changed"].bounds != before["changed"].bounds
    assert directory.generation == 1


def test_a_file_that_turned_bad_becomes_a_problem_and_a_mended_one_a_scene(tmp_path: Path) -> None:
    small(tmp_path / "kept.tif")
    first, second = tmp_path / "first.tif", tmp_path / "second.tif"
    small(first)
    second.write_text("no image")
    directory = DirectoryCatalog(tmp_path, ReadOptions())
    assert [problem.path for problem in directory.index.skipped] == ["second.tif"]
    first.write_text("no image")
    small(second)
    directory.refresh()
    assert [problem.path for problem in directory.index.skipped] == ["first.tif"]
    assert [scene.id for scene in directory.index.scenes] == ["kept", "second"]


def emptied(imagery: Path) -> None:
    for path in imagery.iterdir():
        path.unlink()


@pytest.mark.parametrize("lose", [emptied, shutil.rmtree])
def test_when_nothing_is_left_the_scenes_stay_as_they_were_known(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    imagery = tmp_path / "imagery"
    made = small(imagery / NAME)
    directory = DirectoryCatalog(imagery, ReadOptions())
    before = directory.index
    kept = shutil.copy2(made.path, tmp_path / "kept")
    lose(imagery)
    with pytest.raises(ConfigurationError, match=r"no such directory|no GeoTIFF in it"):
        directory.refresh()
    assert directory.index is before
    imagery.mkdir(exist_ok=True)
    shutil.copy2(kept, made.path)
    directory.refresh()
    assert directory.index.scenes == before.scenes


@pytest.mark.parametrize("lose", [emptied, shutil.rmtree])
def test_imagery_that_is_gone_as_a_whole_is_unavailable_and_not_an_empty_place(
    serve: Serve, pixelwise_model: Path, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    imagery = tmp_path / "imagery"
    made = small(imagery / NAME)
    z, x, y = tiles_around(*made.lonlat, 17, 0)[0]
    with serve(imagery, pixelwise_model) as client:
        lose(imagery)
        for _ in range(3):
            assert client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.png").status_code == 502
        assert client.get("/WebMercatorQuad/tilejson.json").status_code == 200
        assert client.get("/sources").status_code == 200
