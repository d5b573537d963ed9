"""Labels land on the pixels they were drawn on, whatever file, CRS or legend they came in; what
cannot be used is told by feature id."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray

from tests.training.drawn import draw, moved, town, traced
from tests.world.scenes import SyntheticScene, write_bad_file, write_scene
from training.data.imagery import find, inspect_image
from training.data.label_features import Report
from training.data.labels import LabelSettings, label
from training.data.mosaic import mosaic
from training.errors import CrosswalkError, LabelError


def quiet(line: str) -> None:
    """Nobody listens."""


def run(imagery: Path, source: Path, out: Path, **settings: object) -> Report:
    selected = LabelSettings.model_validate({"source": source, **settings})
    return label(imagery, selected, out, quiet)


def read(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as raster:
        pixels: NDArray[np.uint8] = raster.read(1)
    return pixels


@pytest.fixture
def scene(tmp_path: Path) -> SyntheticScene:
    return town(tmp_path / "img", 1)[0]


def box(scene: SyntheticScene, left: int, top: int, cols: int, rows: int) -> shapely.Polygon:
    """Pixels of a scene as a polygon."""
    x, y = scene.left + left, scene.top - top
    return shapely.box(x, y - rows, x + cols, y)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp"])
@pytest.mark.parametrize("epsg", [26916, 4326, 5070, 26917])
def test_traced_polygons_give_back_their_pixels(
    scene: SyntheticScene, tmp_path: Path, suffix: str, epsg: int
) -> None:
    polygons, codes = traced(scene, epsg)
    source = draw(tmp_path / f"drawn{suffix}", polygons, codes, epsg=epsg)
    report = run(scene.path, source, tmp_path / "out")
    pixels = read(tmp_path / "out" / f"{scene.path.stem}_label.tif")
    # Borders of the traced pixels run half a pixel from every center: nothing may move.
    assert (pixels == scene.classes()).all()
    assert report.counts().sum() == pixels.size
    with rasterio.open(tmp_path / "out" / f"{scene.path.stem}_label.tif") as raster:
        assert (raster.dtypes[0], raster.crs.to_epsg()) == ("uint8", 26916)
        assert tuple(raster.bounds) == scene.bounds


def test_a_point_labels_the_ground_within_its_radius(scene: SyntheticScene, tmp_path: Path) -> None:
    point = shapely.Point(scene.left + 80, scene.top - 70)
    source = draw(tmp_path / "p.gpkg", moved([point], 26916, 4326), [5], epsg=4326)
    with pytest.raises(LabelError, match=r"1 points.*radius"):
        run(scene.path, source, tmp_path / "out")
    run(scene.path, source, tmp_path / "out", radius_m=10)
    pixels = read(tmp_path / "out" / f"{scene.path.stem}_label.tif")
    y, x = np.mgrid[:160, :160] + 0.5
    away = np.hypot(x - 80, y - 70)
    assert (pixels[away < 9.8] == 5).all()
    assert (pixels[away > 10] == 0).all()


def test_what_is_the_matter_is_told_by_feature_id(scene: SyntheticScene, tmp_path: Path) -> None:
    bow_tie = shapely.Polygon(
        [(scene.left + x, scene.top - y) for x, y in ((100, 0), (140, 40), (140, 0), (100, 40))]
    )
    shapes = [
        box(scene, 0, 0, 40, 40),
        box(scene, 30, 30, 40, 40),  # overlaps the first by 10 x 10
        box(scene, 60, 30, 30, 20),  # overlaps the second, of the same class
        box(scene, 0, 100, 20, 20),  # unknown class
        bow_tie,
        shapely.Polygon(),
        box(scene, 5_000, 0, 20, 20),  # outside
    ]
    source = draw(tmp_path / "drawn.gpkg", shapes, [1, 2, 2, 9, 3, 4, 5])
    report = run(scene.path, source, tmp_path / "out")
    result = report.features
    assert [o["features"] for o in result.overlaps] == [[1, 2]]
    assert result.overlaps[0]["area"] == 100
    assert report.overlap_pixels == 100
    assert result.unknown_code == {4: "9"}
    assert result.repaired == [5]
    assert result.empty == [6]
    assert result.outside == [7]
    pixels = read(tmp_path / "out" / f"{scene.path.stem}_label.tif")
    assert (pixels[30:40, 30:40] == 0).all()
    assert (pixels[:30, :30] == 1).all()
    assert (pixels[42:50, 42:90] == 2).all()
    assert (pixels[100:120, :20] == 0).all()
    assert (pixels == 3).sum() == pytest.approx(800, rel=0.1)
    kept = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert kept["features"]["overlaps"][0]["features"] == [1, 2]
    issue = "\n".join(report.lines())
    assert "1+2" in issue
    assert "4 ('9')" in issue
    assert "no pixel of class bare" in issue


def test_labels_without_crs_are_refused(scene: SyntheticScene, tmp_path: Path) -> None:
    source = draw(tmp_path / "drawn.shp", [box(scene, 0, 0, 9, 9)], [1])
    source.with_suffix(".prj").unlink()
    with pytest.raises(LabelError, match=r"drawn\.shp has no CRS"):
        run(scene.path, source, tmp_path / "out")


def test_the_wrong_crs_is_refused_naming_both(scene: SyntheticScene, tmp_path: Path) -> None:
    here = [box(scene, 0, 0, 9, 9)]
    wrong = draw(tmp_path / "wrong.gpkg", here, [1], epsg=26910)
    with pytest.raises(LabelError, match=r"EPSG:26910.*EPSG:26916"):
        run(scene.path, wrong, tmp_path / "out")
    meters = draw(tmp_path / "meters.geojson", here, [1], epsg=4326)
    with pytest.raises(LabelError, match=r"EPSG:4326.*EPSG:26916.*not degrees"):
        run(scene.path, meters, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_a_label_of_one_year_stays_on_its_image(tmp_path: Path) -> None:
    scenes = [
        write_scene(tmp_path / "img" / f"a_{y}.tif", cols=64, rows=64, year=y, overviews=False)
        for y in (2017, 2019)
    ]
    square = box(scenes[0], 0, 0, 20, 20)
    source = draw(tmp_path / "d.gpkg", [square, square], [1, 2], on=["a_2017", "a_2019"])
    report = run(tmp_path / "img", source, tmp_path / "out", image_field="on")
    assert report.images == {"a_2017": [400, 0, 0, 0, 0, 0], "a_2019": [0, 400, 0, 0, 0, 0]}
    assert report.overlap_pixels == 0


def test_fields_layers_and_codes_that_are_not_there_are_named(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    source = draw(tmp_path / "d.gpkg", [box(scene, 0, 0, 9, 9)], ["lawn"])
    with pytest.raises(LabelError, match=r"no field 'kind'.*classvalue"):
        run(scene.path, source, tmp_path / "out", field="kind")
    with pytest.raises(LabelError, match=r"layers \['d'\]"):
        run(scene.path, source, tmp_path / "out", layer="e")
    with pytest.raises(LabelError, match="lawn"):
        run(scene.path, source, tmp_path / "out")
    with pytest.raises(CrosswalkError, match="chesapeake"):
        run(scene.path, source, tmp_path / "out", crosswalk="corine")
    own = tmp_path / "own.toml"
    own.write_text("[values]\nLawn = 6\n")
    report = run(scene.path, source, tmp_path / "out", crosswalk=str(own))
    assert report.counts().tolist() == [0, 0, 0, 0, 0, 81]
    own.write_text('[values]\n"1-4" = 6\n3 = 2\n')
    with pytest.raises(CrosswalkError, match="'3' is both 6 and 2"):
        run(scene.path, source, tmp_path / "out", crosswalk=str(own))


def test_a_field_may_differ_in_case_and_a_class_may_be_missing(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    squares = [box(scene, 0, 0, 9, 9), box(scene, 20, 0, 9, 9)]
    path = draw(tmp_path / "d.gpkg", squares, ["water", None], named="Classvalue")
    report = run(scene.path, path, tmp_path / "out")
    assert report.counts().tolist() == [0, 0, 81, 0, 0, 0]
    assert report.features.no_class == [2]
    assert report.features.unknown_code == {}
    assert "features without a class (unlabeled): 2" in report.lines()
    with pytest.raises(LabelError, match=r"no field 'kind'; it has \['Classvalue'\]"):
        run(scene.path, path, tmp_path / "out", field="kind")


def write_codes(path: Path, codes: NDArray[np.generic], transform: Affine, epsg: int) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=codes.shape[0], width=codes.shape[1],
        dtype=codes.dtype, crs=f"EPSG:{epsg}", transform=transform,
    ) as target:  # fmt: skip
        target.write(codes, 1)
    return path


@pytest.mark.parametrize(
    ("crosswalk", "codes"),
    [
        ("nlcd", {11: 3, 24: 0, 31: 4, 41: 5, 82: 6, 90: 5}),
        ("cdl", {1: 6, 61: 4, 63: 5, 111: 3, 121: 0, 204: 0}),
        ("chesapeake", {1: 3, 3: 5, 5: 6, 7: 1, 9: 2, 11: 5}),
        ("chesapeake_lila", {1: 3, 2: 5, 3: 6, 4: 4, 5: 0, 6: 2}),
    ],
)
def test_a_coarse_raster_of_another_legend_is_placed_by_nearest(
    scene: SyntheticScene, tmp_path: Path, crosswalk: str, codes: dict[int, int]
) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.choice(np.array([*codes, 99], np.uint8), (10, 10))
    transform = Affine(30, 0, scene.left - 60, 0, -30, scene.top + 45)
    source = write_codes(tmp_path / "codes.tif", drawn, transform, 26916)
    report = run(scene.path, source, tmp_path / "out", crosswalk=crosswalk)
    pixels = read(tmp_path / "out" / f"{scene.path.stem}_label.tif")
    y, x = np.mgrid[:160, :160] + 0.5
    under = drawn[((y + 45) // 30).astype(int), ((x + 60) // 30).astype(int)]
    expected = np.vectorize(lambda code: codes.get(code, 0))(under)
    assert (pixels == expected).all()
    assert report.unknown_pixels == {"99": int((under == 99).sum())}


def test_a_raster_elsewhere_is_refused_naming_both(scene: SyntheticScene, tmp_path: Path) -> None:
    codes = np.ones((9, 9), np.uint8)
    source = write_codes(tmp_path / "c.tif", codes, Affine(1, 0, 0, 0, -1, 4e6), 26910)
    with pytest.raises(LabelError, match=r"EPSG:26910.*EPSG:26916"):
        run(scene.path, source, tmp_path / "out")


def test_nan_codes_are_unknown_not_a_class(scene: SyntheticScene, tmp_path: Path) -> None:
    codes = np.full((160, 160), 3, np.float32)
    codes[:10] = np.nan
    transform = Affine(1, 0, scene.left, 0, -1, scene.top)
    source = write_codes(tmp_path / "c.tif", codes, transform, 26916)
    report = run(scene.path, source, tmp_path / "out")
    assert report.counts().tolist() == [0, 0, 150 * 160, 0, 0, 0]
    assert report.unknown_pixels == {"nan": 1600}


@pytest.mark.parametrize(
    ("kind", "issue"), [("three_band", "3 bands"), ("uint16", "uint16"), ("text", "cannot be read")]
)
def test_imagery_that_cannot_be_learned_from_is_named(
    tmp_path: Path, kind: str, issue: str
) -> None:
    (tmp_path / "img").mkdir()
    path = write_bad_file(tmp_path / "img" / "bad.tif", kind)
    with pytest.raises(LabelError, match=rf"bad\.tif.*{issue}"):
        find(path.parent)


@pytest.mark.parametrize("missing", [0, 7])
def test_float_imagery_is_refused_and_its_nan_counted(tmp_path: Path, missing: int) -> None:
    pixels = np.full((4, 20, 20), 0.5, np.float32)
    pixels[:, 0, :missing] = np.nan
    path = tmp_path / "f.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=4, height=20, width=20, dtype="float32",
        crs="EPSG:26916", transform=Affine(1, 0, 5e5, 0, -1, 36e5),
    ) as target:  # fmt: skip
        target.write(pixels)
    with pytest.raises(LabelError, match="float32") as caught:
        inspect_image(path)
    assert ("NaN in 7 of" in str(caught.value)) == (missing > 0)


@pytest.mark.parametrize("out", ["m.gpkg", "folder"])
def test_the_mosaic_covers_what_the_files_cover(tmp_path: Path, out: str) -> None:
    scenes = town(tmp_path / "img", 3, apart=100)
    written = mosaic(tmp_path / "img", tmp_path / out)
    files = {
        name: written[0] if out.endswith("gpkg") else tmp_path / out / f"{name}.geojson"
        for name in ("footprints", "boundary")
    }
    layers = {
        name: shapely.from_wkb(pyogrio.raw.read(path, layer=name)[2])
        for name, path in files.items()
    }
    names = pyogrio.raw.read(files["footprints"], layer="footprints")[3][0].tolist()
    assert names == [s.path.stem for s in scenes]
    here = moved(layers["footprints"], 4326, 26916)
    for result, scene in zip(here, scenes, strict=True):
        assert result.symmetric_difference(shapely.box(*scene.bounds)).area < 1
    (boundary,) = moved(layers["boundary"], 4326, 26916)
    assert boundary.area == pytest.approx(360 * 160, abs=2)


@pytest.mark.real
def test_the_real_polygons_give_back_the_real_labels(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "labels" / "polygons.geojson"
    drawn = {f["properties"]["chip"] for f in json.loads(source.read_text())["features"]}
    every = sorted((real_data / "labels" / "chico").glob("chico_20??_[0-9]*[0-9].tif"))
    with_polygons = [chip for chip in every if chip.stem in drawn][:5]
    without = [chip for chip in every if chip.stem not in drawn][:1]
    (tmp_path / "img").mkdir()
    for chip in with_polygons + without:
        (tmp_path / "img" / chip.name).symlink_to(chip)
    report = run(tmp_path / "img", source, tmp_path / "out", image_field="chip")
    assert sorted(report.images) == [chip.stem for chip in with_polygons]
    assert report.unlabeled_images == [chip.stem for chip in without]
    right = labeled = 0
    for chip in with_polygons:
        truth = read(chip.with_name(f"{chip.stem}_label.tif"))
        pixels = read(tmp_path / "out" / f"{chip.stem}_label.tif")
        labeled += int((truth > 0).sum())
        right += int((pixels == truth)[truth > 0].sum())
    assert labeled > 100_000
    assert right / labeled >= 0.99


def test_styles_that_qgis_keeps_beside_a_layer_are_no_layer(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    source = draw(tmp_path / "d.gpkg", [box(scene, 0, 0, 9, 9)], [1])
    with sqlite3.connect(source) as file:
        file.execute("CREATE TABLE layer_styles (id INTEGER PRIMARY KEY, styleQML TEXT)")
        file.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles')"
        )
    file.close()
    assert len(pyogrio.list_layers(source)) == 2
    run(scene.path, source, tmp_path / "out")
    assert (read(tmp_path / "out" / f"{scene.path.stem}_label.tif")[:9, :9] == 1).all()


def test_a_geodatabase_is_a_folder_and_a_field_has_no_case(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    source = draw(tmp_path / "d.gpkg", [box(scene, 0, 0, 9, 9)], [1])
    geodatabase = tmp_path / "d.gdb"
    meta, _, geometry, columns = pyogrio.raw.read(source)
    pyogrio.raw.write(
        geodatabase, geometry, [columns[0].astype(np.int32)], meta["fields"],
        driver="OpenFileGDB", layer="drawn", geometry_type="Polygon", crs=meta["crs"],
    )  # fmt: skip
    assert geodatabase.is_dir()
    for number, each in enumerate((source, geodatabase)):
        out = tmp_path / f"out{number}"
        run(scene.path, each, out, field="Classvalue")
        assert (read(out / f"{scene.path.stem}_label.tif")[:9, :9] == 1).all()
    with pytest.raises(LabelError, match="is a folder: name the file"):
        run(scene.path, tmp_path, tmp_path / "out")
