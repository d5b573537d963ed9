"""No fold judges ground that it learned from; a cut-off cross-validation goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")

from model.card import ModelCard  # noqa: E402
from training.config import Preset  # noqa: E402
from training.data.dataset import Data, eroded, with_other_years  # noqa: E402
from training.data.scenes import Scene  # noqa: E402
from training.data.splits import Split  # noqa: E402
from training.errors import AssessmentError, SplitError  # noqa: E402
from training.evaluate.results import Evaluation, pooled  # noqa: E402
from training.fit.crossval import by_ground, by_place, common, crossvalidate, halves  # noqa: E402
from training.fit.loop import fit  # noqa: E402
from training.network.checkpoint import Checkpoint  # noqa: E402

pytestmark = pytest.mark.torch

MakeScene = Callable[..., Scene]

TINY = Preset(
    name="tiny", crop=32, batch=2, steps=2, warmup=1, evaluate_every=9, synthetic_share=0.0,
    held_out=(), left_out=(), validation_share=0.0,
)  # fmt: skip


def quiet(line: str) -> None:
    """Nobody listens."""


def apart(one: Scene, other: Scene) -> float:
    """Meters between the bounds of two scenes, negative where they overlap."""
    a, b = one.bounds, other.bounds
    return float(max(a.left - b.right, b.left - a.right, a.bottom - b.top, b.bottom - a.top))


def test_every_place_is_judged_whole_by_a_fold_that_never_saw_it(make_scene: MakeScene) -> None:
    scenes = [make_scene(name=f"{p}{i}", place=p) for p in ("a", "b", "c") for i in range(2)]
    folds = by_place(scenes)
    assert [f.name for f in folds] == ["a", "b", "c"]
    for fold in folds:
        assert {s.place for s in fold.test} == {fold.name}
        assert {s.place for s in fold.train} == {"a", "b", "c"} - {fold.name}
    with pytest.raises(SplitError, match="only the place"):
        by_place(scenes[:2])


def test_ground_that_is_judged_lies_apart_from_ground_that_is_learned_from(
    make_scene: MakeScene,
) -> None:
    rng = np.random.default_rng(5)
    scenes = [
        make_scene(
            name=f"{place}{i}",
            place=place,
            year=str(2016 + 2 * int(rng.integers(3))),
            left=500_000 + 90.0 * int(rng.integers(30)),
        )
        for place in ("a", "b")
        for i in range(24)
    ]
    scenes.append(make_scene(name="lone", place="lone"))
    folds = by_ground(scenes, 3, 64.0, seed=1)
    evaluated = [s.name for f in folds for s in f.test]
    assert sorted(evaluated) == sorted(s.name for s in scenes if s.place != "lone")
    for fold in folds:
        for test in fold.test:
            near = [s for s in fold.train if s.place == test.place and apart(s, test) < 64]
            assert near == []
        assert any(s.name == "lone" for s in fold.train)


def test_labels_are_eroded_where_two_classes_meet_and_nowhere_else() -> None:
    label = np.zeros((9, 12), np.uint8)
    label[:, 2:6], label[:, 6:10] = 1, 2
    result = eroded(label, 2)
    assert (result[:, 2:4] == 1).all()
    assert (result[:, 8:10] == 2).all()
    assert not result[:, 4:8].any()


def test_training_ground_is_read_in_its_other_years_and_tested_ground_is_not(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    own = make_scene(name="town_2016_1", year="2016")
    kept = make_scene(name="town_2016_2", year="2016", left=600_000)
    for name, scene in (("town_2018_1", own), ("town_2020_2", kept)):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", driver="GTiff", width=96, height=96, count=4,
            dtype="uint8", crs="EPSG:26916", transform=scene.transform,
        ) as file:  # fmt: skip
            file.write(scene.image)
    split = with_other_years(Split((own,), (), (kept,)), tmp_path, TINY)
    first, second = split.train
    assert first is own
    assert (second.year, second.transferred, second.place) == ("2018", True, "town")
    known = second.label > 0
    assert 0 < known.sum() < (own.label > 0).sum()
    assert (second.label[known] == own.label[known]).all()


@pytest.mark.slow
def test_a_crossvalidation_judges_exported_files_and_is_not_run_twice(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = [
        replace(make_scene(name=p, place=p, seed=i), epsg=None) for i, p in enumerate(("a", "b"))
    ]
    monkeypatch.setattr("training.fit.crossval.read_chips", lambda chips, without: scenes)
    county = Data(
        None, Split((replace(make_scene(name="m"), place="county", synthetic=True),), (), ())
    )
    fit(TINY.model_copy(update={"synthetic_share": 1.0}), county, tmp_path / "made", log=quiet)

    def run(folder: str = "cv", init_from: str = "made/last.pt") -> list[Path]:
        return crossvalidate(
            TINY, tmp_path, tmp_path / folder, ground_folds=0, init_from=tmp_path / init_from,
            other_years=None, command="test", threads=1, log=quiet,
        )  # fmt: skip

    paths = run()
    result = pooled([Evaluation.read(path) for path in paths])
    assert sorted(result.places) == ["a", "b"]
    assert result.trained_on == ()
    assert int(result.table.sum()) == sum(int((s.label > 0).sum()) for s in scenes)
    before = [(p.parent / "model.onnx").stat().st_mtime_ns for p in paths]
    assert run() == paths
    assert [(p.parent / "model.onnx").stat().st_mtime_ns for p in paths] == before

    run("on", init_from="cv")
    for fold in "ab":
        end = Checkpoint.load(tmp_path / "on" / fold / "last.pt")
        assert (end.step, end.before) == (TINY.steps, 2 * TINY.steps)
    (tmp_path / "cv" / "a").rename(tmp_path / "cv" / "c")
    (tmp_path / "cv" / "b").rename(tmp_path / "cv" / "a")
    with pytest.raises(AssessmentError, match=r"a/last.pt was trained on \['a'\]"):
        run("swapped", init_from="cv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AssessmentError, match="no run to start from"):
        run("none", init_from="empty")


def test_a_fold_does_not_begin_from_a_net_that_saw_its_place(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = [make_scene(name=p, place=p) for p in ("a", "b")]
    monkeypatch.setattr("training.fit.crossval.read_chips", lambda chips, without: scenes)
    fit(TINY, Data(Split(tuple(scenes), (), ()), None), tmp_path / "all", log=quiet)
    with pytest.raises(AssessmentError, match=r"trained on \['a', 'b'\]"):
        crossvalidate(
            TINY, tmp_path, tmp_path / "cv", ground_folds=0,
            init_from=tmp_path / "all" / "last.pt", other_years=None,
            command="test", log=quiet,
        )  # fmt: skip


@pytest.mark.slow
def test_what_is_learned_once_for_several_folds_was_seen_by_each_and_judged_in_none(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = [replace(make_scene(name=p, place=p, seed=i), epsg=None) for i, p in enumerate("abcd")]
    folds = by_place(scenes)
    groups = halves(folds)
    assert sorted(f.name for group in groups for f in group) == list("abcd")
    for group in groups:
        assert {s.place for s in common(group)} == set("abcd") - {f.name for f in group}
    assert halves(folds[:3]) == []

    monkeypatch.setattr("training.fit.crossval.read_chips", lambda chips, without: scenes)
    crossvalidate(
        TINY, tmp_path, tmp_path / "cv", ground_folds=0, init_from=None, other_years=None,
        shared=TINY.model_copy(update={"steps": 3}), command="test", threads=1, log=quiet,
    )  # fmt: skip
    for number, group in enumerate(groups, 1):
        half = Checkpoint.load(tmp_path / "cv" / f"half{number}" / "last.pt")
        trained_on = set(ModelCard.parse(half.card, "half").training.places)
        assert trained_on == set("abcd") - {f.name for f in group}
        for fold in group:
            end = Checkpoint.load(tmp_path / "cv" / fold.name / "last.pt")
            assert (end.step, end.before) == (TINY.steps, 3)
