"""The least sure squares come back as labels, and override what was drawn before."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely

from model.session import Session
from tests.training.drawn import draw, moved, town, traced
from tests.world.graphs import write_model
from training.data.imagery import inspect_image
from training.data.labels import LabelSettings, label, label_path, write_label
from training.errors import AssessmentError, LabelError
from training.evaluate.uncertain import squares_of, uncertain


def quiet(line: str) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A model that looks at colors: least sure where two classes are alike."""
    return Session.load(write_model(tmp_path_factory.mktemp("m") / "model.onnx"))


def test_the_least_sure_squares_are_written_and_none_touches_another(
    model: Session, tmp_path: Path
) -> None:
    scenes = town(tmp_path / "img", 2)
    out = tmp_path / "u.gpkg"
    selected = uncertain(model, tmp_path / "img", out, count=6, side_m=20, log=quiet)
    every = [s for t in scenes for s in squares_of(model, inspect_image(t.path), 20)]
    assert len(every) == 2 * 8 * 8
    assert selected[0].confidence == min(s.confidence for s in every)
    assert [s.confidence for s in selected] == sorted(s.confidence for s in selected)
    for one in selected:
        for other in selected:
            if one is not other and one.picture == other.picture:
                assert max(abs(one.row - other.row), abs(one.col - other.col)) > 1
    _, _, shapes, fields = pyogrio.raw.read(out, layer="labels")
    assert pyogrio.raw.read(out, layer="labels")[0]["fields"].tolist() == [
        "classvalue", "image", "predicted", "confidence"
    ]  # fmt: skip
    assert all(value is None for value in fields[0])
    here = moved(shapely.from_wkb(shapes), 4326, 26916)
    assert [round(shape.area) for shape in here] == [400] * 6
    boxes = [shapely.box(*scene.bounds) for scene in scenes]
    assert all(any(box.buffer(0.01).contains(shape) for box in boxes) for shape in here)


def test_what_is_labeled_is_left_out(model: Session, tmp_path: Path) -> None:
    (scene,) = town(tmp_path / "img", 1)
    picture = inspect_image(scene.path)
    known = np.zeros((160, 160), np.uint8)
    known[:, :80] = 3
    write_label(known, picture, label_path(tmp_path / "l", picture))
    assert {s.col for s in squares_of(model, picture, 40, tmp_path / "l")} == {2, 3}
    known[:] = 3
    write_label(known, picture, label_path(tmp_path / "l", picture))
    with pytest.raises(AssessmentError, match="no square of 40 m"):
        uncertain(
            model,
            tmp_path / "img",
            tmp_path / "u.gpkg",
            side_m=40,
            labels=tmp_path / "l",
            log=quiet,
        )


def test_corrections_override_what_was_drawn(model: Session, tmp_path: Path) -> None:
    (scene,) = town(tmp_path / "img", 1)
    polygons, codes = traced(scene)
    drawn = draw(tmp_path / "d.gpkg", polygons, codes)
    out = tmp_path / "u.gpkg"
    selected = uncertain(model, tmp_path / "img", out, count=3, side_m=20, log=quiet)
    settings = LabelSettings(source=drawn, corrections=(out,))
    report = label(tmp_path / "img", settings, tmp_path / "before", quiet)
    with sqlite3.connect(out) as table:  # as QGIS does
        for name in [
            n for (n,) in table.execute("SELECT name FROM sqlite_master WHERE type='trigger'")
        ]:
            table.execute(f"DROP TRIGGER {name}")
        table.execute("UPDATE labels SET classvalue = 'water' WHERE fid = 1")
    report = label(tmp_path / "img", settings, tmp_path / "after", quiet)
    assert report.features.no_class == []
    before, after = (
        rasterio.open(tmp_path / side / "town0_2017_label.tif").read(1)
        for side in ("before", "after")
    )
    assert (before == scene.classes()).all()
    first = selected[0]
    part = np.s_[first.row * 20 : first.row * 20 + 20, first.col * 20 : first.col * 20 + 20]
    assert (after[part] == 3).all()
    after[part] = before[part]
    assert (after == before).all()
    with sqlite3.connect(out) as table:
        table.execute("UPDATE labels SET classvalue = 'lava' WHERE fid = 1")
    with pytest.raises(LabelError, match="lava"):
        label(tmp_path / "img", settings, tmp_path / "bad", quiet)
