"""An assessment: the served file on whole scenes, every labeled pixel counted once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform_bounds
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")

from model.card import ModelCard, Training  # noqa: E402
from training.cli import app  # noqa: E402
from training.cli import evaluate as commands  # noqa: E402
from training.config import Preset  # noqa: E402
from training.data.resolution import (  # noqa: E402
    block_mean,
    mode_with_tiebreak,
    resize_nearest,
)
from training.data.scenes import CLASSES, Scene  # noqa: E402
from training.errors import AssessmentError, LabelError  # noqa: E402
from training.evaluate.evaluation import Subject, assess, classify, evaluate, ground_of  # noqa: E402
from training.evaluate.lowres import LowRes, lowres_of  # noqa: E402
from training.evaluate.results import Evaluation, pooled  # noqa: E402
from training.evaluate.selection import held_out, of_names, of_pairs, of_places  # noqa: E402
from training.evaluate.years import Years, pair_tables, year_tables, years_of  # noqa: E402
from training.export import artifact  # noqa: E402
from training.export.artifact import write_accuracy  # noqa: E402
from training.export.onnx_export import onnx_of  # noqa: E402
from training.network.build import fold  # noqa: E402
from training.network.unet import UNet  # noqa: E402

pytestmark = pytest.mark.torch

MakeScene = Callable[..., Scene]


def quiet(line: str) -> None:
    """The assessment is not listened to."""


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    torch.manual_seed(3)
    training = Training(places=("town",), preset="test", steps=5)
    card = ModelCard(
        name="test", version="1", mean=(0.4,) * 4, std=(0.2,) * 4, halo=96, training=training
    )
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    artifact.write(onnx_of(fold(UNet().eval())), card, path)
    return Subject.load(path)


def write(scene: Scene, folder: Path, name: str = "") -> Path:
    """The scene's imagery as a GeoTIFF."""
    path = folder / f"{name or scene.name}.tif"
    folder.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "height": scene.label.shape[0],
        "width": scene.label.shape[1],
        "transform": scene.transform,
        "crs": CRS.from_epsg(scene.epsg),
    }
    with rasterio.open(path, "w", count=4, **profile) as file:
        file.write(scene.image)
    with rasterio.open(path.with_name(f"{path.stem}_label.tif"), "w", count=1, **profile) as file:
        file.write(scene.label, 1)
    return path


def chips(folder: Path, scenes: list[Scene]) -> Path:
    """The scenes as files and the list of them."""
    lines = ["place,image,label,resolution_m,epsg,year"]
    for s in scenes:
        write(s, folder)
        lines.append(f"{s.place},{s.name}.tif,{s.name}_label.tif,{s.resolution},{s.epsg},{s.year}")
    (folder / "chips.csv").write_text("\n".join(lines) + "\n")
    return folder / "chips.csv"


def test_every_labeled_pixel_counts_once_and_a_collar_nowhere(
    subject: Subject, make_scene: MakeScene
) -> None:
    scene = make_scene(size=100)
    scene.image[:, :20] = 0
    (result,) = assess(subject.session, [scene], quiet)
    assert result.table.sum(axis=1).tolist() == [
        int((scene.label[20:] == value).sum()) for value in range(1, 7)
    ]
    assert sum(result.confidence) == result.table.sum()


def test_a_scenes_figures_are_those_of_its_pixels_one_by_one(
    subject: Subject, make_scene: MakeScene
) -> None:
    scene = make_scene(size=80)
    (result,) = assess(subject.session, [scene], quiet)
    answer = classify(subject.session, scene)
    table = np.zeros((CLASSES, CLASSES), np.int64)
    sure, right = [0] * 101, [0] * 101
    for reference, shown, per_cent in zip(
        scene.label.ravel(), answer.classes.ravel(), answer.confidence.ravel(), strict=True
    ):
        if reference:
            table[reference - 1, shown - 1] += 1
            sure[per_cent] += 1
            right[per_cent] += int(reference == shown)
    assert (result.table == table).all()
    assert list(result.confidence) == sure
    assert list(result.right) == right


def test_an_evaluation_says_which_places_its_model_was_trained_on(
    subject: Subject, make_scene: MakeScene
) -> None:
    scenes = [make_scene("a", "town"), make_scene("b", "village", seed=2)]
    shown: list[str] = []
    found = evaluate(
        subject,
        scenes,
        name="test",
        role="unseen",
        description="made",
        command="do it",
        log=quiet,
        on_scene=lambda scene, answer: shown.append(f"{scene.name} {answer.classes.shape}"),
    )
    assert found.trained_on == ("town",)
    assert found.models == (subject.facts,)
    assert shown == ["a (96, 96)", "b (96, 96)"]


def test_one_ground_at_two_dates_is_one_ground(make_scene: MakeScene) -> None:
    first, second = make_scene("a", year="2013"), make_scene("b", year="2017", seed=4)
    assert ground_of(first) == ground_of(second)
    assert ground_of(make_scene("c", left=600_000.0)) != ground_of(first)
    nowhere = replace(first, epsg=None)
    assert ground_of(nowhere) == ground_of(replace(nowhere, name="other", image=second.image))
    assert ground_of(nowhere) != ground_of(replace(nowhere, label=second.label))


def test_accuracy_goes_into_the_file_and_leaves_the_network_alone(
    tmp_path: Path, subject: Subject, make_scene: MakeScene
) -> None:
    path = tmp_path / "net.onnx"
    artifact.write(onnx_of(fold(UNet().eval())), subject.session.card, path)
    before = Subject.load(path)
    results = assess(before.session, [make_scene()], quiet)
    found = Evaluation(
        name="there", role="own", description="made", commands=(), models=(), scenes=results
    )
    write_accuracy(path, [found.assessment()])
    after = Subject.load(path)
    assert after.facts.graph == before.facts.graph
    assert after.session.sha256 != before.session.sha256
    (stamped,) = after.session.card.accuracy
    assert (np.array(stamped.contingency) == found.table).all()


def test_classes_are_placed_by_nearest_neighbor() -> None:
    classes = np.arange(1, 5, dtype=np.uint8).reshape(2, 2)
    assert (
        resize_nearest(classes, (4, 4)).tolist() == np.kron(classes, np.ones((2, 2), int)).tolist()
    )
    assert (resize_nearest(classes, (2, 2)) == classes).all()


def test_scenes_are_chosen_by_place_by_name_and_by_what_a_preset_holds_out(
    tmp_path: Path, make_scene: MakeScene
) -> None:
    index = chips(
        tmp_path,
        [
            make_scene("a", "town"),
            make_scene("b", "town", left=600_000.0),
            make_scene("c", "village", left=700_000.0),
        ],
    )
    assert [s.name for s in of_places(index, ["town"]).scenes] == ["a", "b"]
    assert [s.name for s in of_names(index, ["c", "a"]).scenes] == ["c", "a"]
    preset = Preset(name="test", held_out=("village",), left_out=())
    (selected,) = held_out(preset, index, None)
    assert [s.name for s in selected.scenes] == ["c"]
    assert selected.role == "unseen"
    with pytest.raises(LabelError, match="nowhere"):
        of_places(index, ["nowhere"])
    with pytest.raises(LabelError, match="'d'"):
        of_names(index, ["a", "d"])
    with pytest.raises(AssessmentError, match="holds out no place"):
        held_out(Preset(name="test", held_out=()), index, None)


def test_own_labels_on_the_images_pixels_are_taken_as_they_are(
    tmp_path: Path, make_scene: MakeScene
) -> None:
    scene = make_scene("own")
    image = write(scene, tmp_path)
    (read,) = of_pairs([image], [tmp_path / "own_label.tif"]).scenes
    assert (read.label == scene.label).all()
    assert (read.image == scene.image).all()


def test_own_labels_on_another_grid_are_placed_on_the_images_pixels(
    tmp_path: Path, make_scene: MakeScene
) -> None:
    scene = make_scene("own", size=96)
    image = write(scene, tmp_path)
    coarse = make_scene("coarse", size=24, resolution=4.0)
    coarse.label[:] = np.kron(np.array([[1, 2], [3, 255]], np.uint8), np.ones((12, 12), np.uint8))
    write(coarse, tmp_path)
    (read,) = of_pairs([image], [tmp_path / "coarse_label.tif"]).scenes
    expected = np.kron(np.array([[1, 2], [3, 0]], np.uint8), np.ones((48, 48), np.uint8))
    assert (read.label == expected).all()


def test_own_labels_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, make_scene: MakeScene
) -> None:
    image = write(make_scene("own"), tmp_path)
    label = tmp_path / "own_label.tif"
    with rasterio.open(label) as file:
        profile = file.profile
    for name, value in (("unknown", 41), ("empty", 0)):
        with rasterio.open(tmp_path / f"{name}_label.tif", "w", **profile) as file:
            file.write(np.full((96, 96), value, np.uint8), 1)
    elsewhere = write(make_scene("elsewhere", left=900_000.0), tmp_path)
    degrees = tmp_path / "degrees.tif"
    with rasterio.open(image) as file:
        west, south, east, north = transform_bounds(file.crs, 4326, *file.bounds)
        step = Affine((east - west) / 96, 0, west, 0, (south - north) / 96, north)
        with rasterio.open(
            degrees, "w", **(file.profile | {"crs": CRS.from_epsg(4326), "transform": step})
        ) as out:
            out.write(file.read())
    for images, labels, message in (
        ([image], [tmp_path / "unknown_label.tif"], r"unknown_label\.tif contains 41"),
        ([image], [tmp_path / "empty_label.tif"], r"empty_label\.tif labels no pixel"),
        ([elsewhere], [label], "labels no pixel"),
        ([image], [tmp_path / "none.tif"], r"none\.tif is missing"),
        ([label], [label], "1 bands"),
        ([degrees], [label], "projected"),
    ):
        with pytest.raises(LabelError, match=message):
            of_pairs(images, labels)
    with pytest.raises(AssessmentError, match="1 images and 0 labels"):
        of_pairs([image], [])


def test_the_mean_and_the_mode_of_cells_are_those_counted_one_by_one() -> None:
    rng = np.random.default_rng(2)
    image = rng.integers(1, 256, (4, 16, 24), dtype=np.uint8)
    image[:, 3, 5] = 0
    classes = rng.integers(1, 4, (16, 24), dtype=np.uint8)
    classes[9, 9] = 255
    for factor in (2, 4, 8):
        small, mode = block_mean(image, factor), mode_with_tiebreak(classes, factor)
        for row in range(16 // factor):
            for col in range(24 // factor):
                cell = (
                    slice(row * factor, (row + 1) * factor),
                    slice(col * factor, (col + 1) * factor),
                )
                mean = np.rint(image[:, *cell].reshape(4, -1).mean(axis=1))
                if (image[:, *cell] == 0).all(axis=0).any():
                    mean[:] = 0
                assert small[:, row, col].tolist() == mean.tolist()
                values, counts = np.unique(classes[cell], return_counts=True)
                if (values > CLASSES).any():
                    assert mode[row, col] == 255
                    continue
                tied = values[counts == counts.max()]
                assert mode[row, col] == tied[(row + col) % len(tied)]


def test_the_mode_is_that_of_the_servers_pyramid() -> None:
    app = pytest.importorskip("app.grid.classified")
    classes = np.random.default_rng(3).integers(1, 7, (64, 96), dtype=np.uint8)
    for level in (1, 2, 3):
        assert (mode_with_tiebreak(classes, 2**level) == app.mode_of(classes, level)).all()


def test_low_resolutions_compare_the_same_ground(subject: Subject, make_scene: MakeScene) -> None:
    scenes = [make_scene("a", rows=50, cols=70), make_scene("b", resolution=5.0)]
    heard: list[str] = []
    found = lowres_of(subject, scenes, command="do it", log=heard.append)
    assert [s.name for s in found.scenes] == ["a"]
    assert any("b: 5 m, skipped" in line for line in heard)
    label = scenes[0].label[:48, :64]
    assert found.accuracy().sum() == (label > 0).sum()
    for factor in (2, 4, 8):
        assert found.agreement(factor).sum() == 48 * 64 // factor**2
        assert found.accuracy(factor).sum() == (label > 0).sum()
    assert found.trained_on == ("town",)
    with pytest.raises(AssessmentError, match="as fine as"):
        lowres_of(subject, scenes[1:], command="do it", log=quiet)
    with pytest.raises(AssessmentError, match="twice"):
        pooled([found, found])


def test_years_of_one_ground_are_compared_on_the_same_labeled_pixels(
    subject: Subject, make_scene: MakeScene, tmp_path: Path
) -> None:
    labeled = make_scene("town_2016_3", year="2016")
    for year, seed in (("2016", 0), ("2018", 0), ("2020", 5)):
        other = make_scene(f"town_{year}_3", year=year, seed=seed)
        if year == "2020":
            other.image[:, :10] = 0  # no imagery there: these pixels count in no year
        write(other, tmp_path)
    write(make_scene("town_2018_33", year="2018"), tmp_path)
    found = years_of(
        subject, [labeled, make_scene("alone_2016_1")], tmp_path, command="do it", log=quiet
    )
    (ground,) = found.grounds
    assert (ground.name, ground.label_year) == ("town_3", "2016")
    pixels = int((labeled.label[10:] > 0).sum())
    tables = year_tables(found.grounds)
    assert {year: int(t.sum()) for year, t in tables.items()} == dict.fromkeys(
        ("2016", "2018", "2020"), pixels
    )
    pairs = pair_tables(found.grounds)
    assert set(pairs) == {("2016", "2018"), ("2016", "2020"), ("2018", "2020")}
    same = pairs["2016", "2018"]  # the same image: every pixel agrees
    assert np.trace(same) == same.sum() == pixels
    assert (same == np.diag(tables["2016"].sum(axis=0))).all()
    assert found.in_all_of(["2016", "2022"]) == ()
    assert year_tables(found.where_labels_hold.grounds)["2018"].sum() == pixels  # nothing turned
    path = tmp_path / "years.json"
    found.write(path)
    assert Years.read(path) == found
    path.write_text(found.model_dump_json(exclude={"holding"}))  # as an earlier version wrote it
    with pytest.raises(AssessmentError, match="holding: Field required"):
        Years.read(path)
    with pytest.raises(AssessmentError, match="twice"):
        pooled([found, found])


def test_labels_that_do_not_hold_in_another_year_are_counted_apart(
    subject: Subject, make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labeled = make_scene("town_2016_3", year="2016")
    other = make_scene("town_2018_3", year="2018", seed=3)
    turned = replace(other, label=np.where(labeled.label == 4, 6, labeled.label).astype(np.uint8))
    monkeypatch.setattr(
        "training.evaluate.years.scenes_by_year",
        lambda scenes, folder: [(labeled, {"2016": labeled, "2018": turned})],
    )
    found = years_of(subject, [labeled], tmp_path, command="do it", log=quiet)
    every, held = (
        year_tables(y.grounds)["2018"].sum(axis=1) for y in (found, found.where_labels_hold)
    )
    assert every[3] > 0
    assert held[3] == 0
    assert (np.delete(held, 3) == np.delete(every, 3)).all()
    assert [g.label_year for g in found.holding] == ["2016"]


@pytest.mark.parametrize(
    "command",
    [
        commands.evaluate,
        partial(commands.years, chips=Path("chips.csv"), other_years=Path("years")),
    ],
)
def test_two_ways_of_choosing_scenes_exclude_each_other(command: Callable[..., None]) -> None:
    with pytest.raises(AssessmentError, match="--place and --scenes exclude each other"):
        command(place=["town"], scenes=Path("names.txt"))


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["evaluate"], "--chips"),
        (["evaluate", "--place", "town"], "--chips"),
        (["years", "--chips", "chips.csv"], "--other-years"),
        (["lowres"], "--chips"),
        (["crossval"], "--chips"),
        (["fit", "--preset", "smoke"], "--chips"),
        (["export", "--int8"], "--chips"),
    ],
)
def test_a_command_that_lacks_its_data_names_the_option(command: list[str], option: str) -> None:
    done = CliRunner().invoke(app, command)
    assert done.exit_code != 0
    assert option in (done.output if done.exit_code == 2 else str(done.exception))


def test_years_that_do_not_lie_on_each_other_or_do_not_exist_are_refused(
    subject: Subject, make_scene: MakeScene, tmp_path: Path
) -> None:
    labeled = make_scene("town_2016_3", year="2016")
    with pytest.raises(AssessmentError, match="no labeled scene"):
        years_of(subject, [labeled], tmp_path, command="do it", log=quiet)
    write(make_scene("town_2018_3", year="2018", left=500_001.0), tmp_path)
    with pytest.raises(AssessmentError, match=r"town_2018_3\.tif does not lie"):
        years_of(subject, [labeled], tmp_path, command="do it", log=quiet)


def test_low_resolutions_are_kept(subject: Subject, make_scene: MakeScene, tmp_path: Path) -> None:
    found = lowres_of(subject, [make_scene("a")], command="do it", log=quiet)
    found.write(tmp_path / "lowres.json")
    assert LowRes.read(tmp_path / "lowres.json") == found
