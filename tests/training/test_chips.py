"""Chips: every labeled window once, counted for every class, whole or not there at all."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from tests.training.drawn import town
from tests.world.scenes import SyntheticScene, write_scene
from training.data.chips import ChipSettings, chip_offsets, cut
from training.data.imagery import inspect_image
from training.data.labels import label_path, write_label
from training.data.manifest import check_files, read_manifest, read_scenes
from training.errors import ChipError, LabelError

SMALL = ChipSettings(size=64, stride=16)


def quiet(line: str) -> None:
    """Nobody listens."""


def labeled(scene: SyntheticScene, folder: Path, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Writes a scene's label raster."""
    picture = inspect_image(scene.path)
    write_label(pixels, picture, label_path(folder, picture))
    return pixels


@pytest.fixture
def scene(tmp_path: Path) -> SyntheticScene:
    """200 x 150 pixels, its left two thirds labeled."""
    synthetic = write_scene(
        tmp_path / "img" / "a_2017.tif", cols=200, rows=150, collar=8, overviews=False
    )
    label = np.where(synthetic.valid(), synthetic.classes(), 0).astype(np.uint8)
    label[:, 130:] = 0
    labeled(synthetic, tmp_path / "labels", label)
    return synthetic


def test_chips_are_the_windows_that_a_brute_force_finds(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    manifest = cut(tmp_path / "img", tmp_path / "labels", SMALL, tmp_path / "chips", log=quiet)
    image = np.pad(scene.image(), ((0, 0), (0, 64), (0, 64)))
    with rasterio.open(tmp_path / "labels" / "a_2017_label.tif") as raster:
        label = np.pad(raster.read(1), ((0, 64), (0, 64)))
    expected = {}
    for row in range(0, 150 - 64 + 16, 16):
        for col in range(0, 200 - 64 + 16, 16):
            part = label[row : row + 64, col : col + 64]
            if (part > 0).mean() >= 0.5:
                expected[row, col] = part
    assert [(c.row, c.col) for c in manifest.chips] == list(expected)
    for chip in manifest.chips:
        with h5py.File(tmp_path / "chips" / chip.file) as file:
            stored = file["image"][chip.index], file["label"][chip.index]
        part = image[:, chip.row : chip.row + 64, chip.col : chip.col + 64]
        assert (stored[0] == part).all()
        assert (stored[1] == expected[chip.row, chip.col]).all()
        counts = np.bincount(expected[chip.row, chip.col].ravel(), minlength=7)[1:]
        assert chip.pixels == tuple(counts)


def test_a_chip_is_stored_once_with_its_rarest_class(scene: SyntheticScene, tmp_path: Path) -> None:
    manifest = cut(tmp_path / "img", tmp_path / "labels", SMALL, tmp_path / "chips", log=quiet)
    places = [(c.file, c.index) for c in manifest.chips]
    assert len(set(places)) == len(places) == sum(c.stored for c in manifest.classes)
    holding = {c.value: c.chips for c in manifest.classes}
    for c in manifest.classes:
        mine = [chip for chip in manifest.chips if chip.pixels[c.value - 1]]
        assert (len(mine), sum(m.pixels[c.value - 1] for m in mine)) == (c.chips, c.pixels)
        with h5py.File(tmp_path / "chips" / c.file) as file:
            assert len(file["image"]) == len(file["label"]) == c.stored
    for chip in manifest.chips:
        held = [v for v in range(1, 7) if chip.pixels[v - 1]]
        assert holding[int(chip.file[0])] == min(holding[v] for v in held)


def test_chips_put_together_are_the_imagery_again(scene: SyntheticScene, tmp_path: Path) -> None:
    manifest = cut(tmp_path / "img", tmp_path / "labels", SMALL, tmp_path / "chips", log=quiet)
    (result,) = read_scenes(tmp_path / "chips", manifest, [c.id for c in manifest.chips])
    with rasterio.open(tmp_path / "labels" / "a_2017_label.tif") as raster:
        label = raster.read(1)
    rows, cols = result.label.shape
    assert rows == 150
    covered = np.zeros((150, 200), bool)
    for chip in manifest.chips:
        covered[chip.row : chip.row + 64, chip.col : chip.col + 64] = True
    covered = covered[:, :cols]
    assert covered.mean() > 0.9
    assert (result.image == scene.image()[:, :, :cols] * covered).all()
    assert (result.label == label[:, :cols] * covered).all()
    assert result.bounds.left == scene.left
    assert result.bounds.top == scene.top
    assert result.year == "2017"


def test_pieces_apart_are_scenes_apart(scene: SyntheticScene, tmp_path: Path) -> None:
    label = np.zeros((150, 200), np.uint8)
    label[:64, :64] = 1
    label[80:144, 128:192] = 2
    labeled(scene, tmp_path / "labels", label)
    settings = ChipSettings(size=64, stride=16, max_background=0.3)
    manifest = cut(tmp_path / "img", tmp_path / "labels", settings, tmp_path / "chips", log=quiet)
    result = read_scenes(tmp_path / "chips", manifest, [c.id for c in manifest.chips])
    assert [set(np.unique(s.label)) - {0} for s in result] == [{1}, {2}]
    assert result[1].bounds.left >= scene.left + 112


@pytest.mark.parametrize(
    ("length", "expected"), [(256, [0]), (100, [0]), (300, [0, 64]), (384, [0, 64, 128])]
)
def test_chips_lie_on_the_lattice_and_reach_the_end(length: int, expected: list[int]) -> None:
    assert list(chip_offsets(length, 256, 64)) == expected


def test_empty_classes_are_a_warning_and_no_class_an_error(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    label = np.full((150, 200), 5, np.uint8)
    labeled(scene, tmp_path / "labels", label)
    issue_lines: list[str] = []
    cut(tmp_path / "img", tmp_path / "labels", SMALL, tmp_path / "chips", log=issue_lines.append)
    manifest = json.loads((tmp_path / "chips" / "manifest.json").read_text())
    assert len(manifest["warnings"]) == 5
    assert "class 3 water" in " ".join(manifest["warnings"])
    assert "class 3 water" in " ".join(issue_lines)
    label[:] = 0
    label[0, :9] = 5
    labeled(scene, tmp_path / "labels", label)
    with pytest.raises(ChipError, match="no chip is left"):
        cut(tmp_path / "img", tmp_path / "labels", SMALL, tmp_path / "chips", log=quiet)
    assert read_manifest(tmp_path / "chips").chips  # what was there is still there
    with pytest.raises(ChipError, match=r"_label\.tif"):
        cut(tmp_path / "img", tmp_path / "none", SMALL, tmp_path / "chips", log=quiet)


def test_labels_that_do_not_fit_their_image_are_named(
    scene: SyntheticScene, tmp_path: Path
) -> None:
    other = write_scene(
        tmp_path / "b.tif", origin=(502_700.5, 3_648_600.0), cols=200, rows=150, overviews=False
    )
    path = tmp_path / "labels" / "a_2017_label.tif"
    write_label(np.ones((150, 200), np.uint8), inspect_image(other.path), path)
    with pytest.raises(LabelError, match="does not lie on the pixels"):
        cut(tmp_path / "img", tmp_path / "labels", SMALL, tmp_path / "chips", log=quiet)
    write_label(np.full((150, 200), 9, np.uint8), inspect_image(scene.path), path)
    with pytest.raises(LabelError, match=r"contains 9.*crosswalk"):
        cut(tmp_path / "img", tmp_path / "labels", SMALL, tmp_path / "chips", log=quiet)
    zone = write_scene(tmp_path / "c.tif", epsg=26917, cols=200, rows=150, overviews=False)
    write_label(np.ones((150, 200), np.uint8), inspect_image(zone.path), path)
    with pytest.raises(LabelError, match=r"26917.*26916"):
        cut(tmp_path / "img", tmp_path / "labels", SMALL, tmp_path / "chips", log=quiet)


def test_a_truncated_or_lost_file_is_named(scene: SyntheticScene, tmp_path: Path) -> None:
    manifest = cut(tmp_path / "img", tmp_path / "labels", SMALL, tmp_path / "chips", log=quiet)
    check_files(tmp_path / "chips", manifest)
    largest = max((tmp_path / "chips").glob("*.h5"), key=lambda p: p.stat().st_size)
    content = largest.read_bytes()
    largest.write_bytes(content[: len(content) // 2])
    with pytest.raises(ChipError, match=rf"{largest.name} is truncated"):
        check_files(tmp_path / "chips", manifest)
    largest.unlink()
    with pytest.raises(ChipError, match=rf"{largest.name} is missing"):
        check_files(tmp_path / "chips", manifest)
    (tmp_path / "chips" / "manifest.json").write_text("{")
    with pytest.raises(ChipError, match="cannot be read"):
        read_manifest(tmp_path / "chips")
    with pytest.raises(ChipError, match="no chips"):
        read_manifest(tmp_path)


def test_damaged_imagery_is_an_error_never_a_chip(scene: SyntheticScene, tmp_path: Path) -> None:
    content = scene.path.read_bytes()
    scene.path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(LabelError, match=r"a_2017\.tif"):
        cut(tmp_path / "img", tmp_path / "labels", SMALL, tmp_path / "chips", log=quiet)
    assert not (tmp_path / "chips").exists()


def test_the_same_input_gives_the_same_bytes(scene: SyntheticScene, tmp_path: Path) -> None:
    for name in ("one", "two"):
        cut(tmp_path / "img", tmp_path / "labels", SMALL, tmp_path / name, log=quiet)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert one == two


def test_the_place_is_the_folder_of_the_image(tmp_path: Path) -> None:
    for n, synthetic in enumerate(town(tmp_path / "img" / "east", 2)):
        picture = inspect_image(synthetic.path, f"east/{synthetic.path.stem}")
        write_label(np.full(picture.shape, n + 1, np.uint8), picture,
                    label_path(tmp_path / "labels", picture))  # fmt: skip
    manifest = cut(tmp_path / "img", tmp_path / "labels", SMALL, tmp_path / "chips", log=quiet)
    assert {s.place for s in manifest.scenes} == {"east"}


def test_a_list_of_chips_names_images_labels_places_and_years(tmp_path: Path) -> None:
    (tmp_path / "east").mkdir()
    scenes = [write_scene(tmp_path / "east" / f"{n}.tif", cols=96, rows=64) for n in "ab"]
    for number, each in enumerate(scenes, 1):
        labeled(each, tmp_path / "east", np.full((64, 96), number, np.uint8))
    index = tmp_path / "chips.csv"
    rows = [f"town{n},east/{n}.tif,east/{n}_label.tif,1.0,26916,201{i}" for i, n in enumerate("ab")]
    index.write_text("\n".join(["place,image,label,resolution_m,epsg,year", *rows, ""]))
    manifest = cut(index, None, SMALL, tmp_path / "chips", log=quiet)
    assert [(s.name, s.place, s.year) for s in manifest.scenes] == [
        ("east/a", "towna", "2010"),
        ("east/b", "townb", "2011"),
    ]
    (read, _) = read_scenes(tmp_path / "chips", manifest, {c.id for c in manifest.chips})
    image = scenes[0].image()
    assert (read.image == image).all()
    assert (read.label == np.where(image.any(axis=0), 1, 0)).all()
    index.write_text("place,image,label,year\n")
    with pytest.raises(LabelError, match="no column resolution_m"):
        cut(index, None, SMALL, tmp_path / "chips", log=quiet)
    with pytest.raises(ChipError, match="give the folder of its labels"):
        cut(tmp_path / "east", None, SMALL, tmp_path / "chips", log=quiet)
