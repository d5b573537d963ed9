"""A label in another year: greened and dried ground is found, a new light is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from training.data.other_years import (
    CHANGE,
    DRY,
    GREEN,
    MIN_PIXELS,
    Greenness,
    _mean,
    relabeled,
    scenes_by_year,
)
from training.data.scenes import BARE, PLANTED, Image, Label, Scene
from training.errors import AssessmentError

MakeScene = Callable[..., Scene]

RED_NIR = {1: (150, 140), 2: (110, 100), 3: (40, 20), 4: (160, 165), 5: (50, 150), 6: (70, 180)}
"""Gray levels of red and near infrared of every class; roofs, roads and bare soil are alike."""

SIDE = 48


def town(looks: dict[int, int] | None = None) -> tuple[Image, Label]:
    """Six stripes, one for each class, of SIDE x SIDE pixels; `looks` says which class a class
    looks like in the image. Image uint8 (4, SIDE, 6 SIDE), label uint8 (SIDE, 6 SIDE)."""
    label = np.repeat(np.arange(1, 7, dtype=np.uint8), SIDE)[None].repeat(SIDE, axis=0)
    image = np.full((4, *label.shape), 90, np.uint8)
    for value in range(1, 7):
        red, infrared = RED_NIR[(looks or {}).get(value, value)]
        image[0, label == value], image[3, label == value] = red, infrared
    return image, label


def inside(value: int) -> tuple[slice, slice]:
    """The stripe of a class without the edges, where the means of neighbors mix."""
    return slice(None), slice((value - 1) * SIDE + 3, value * SIDE - 3)


def write(image: Image, scene: Scene, path: Path) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", width=image.shape[2], height=image.shape[1], count=4,
        dtype="uint8", crs=f"EPSG:{scene.epsg}", transform=scene.transform,
    ) as file:  # fmt: skip
        file.write(image)


@pytest.fixture
def drawn(make_scene: MakeScene) -> Scene:
    image, label = town()
    return replace(
        make_scene("town_2016_1", year="2016", rows=SIDE, cols=6 * SIDE), image=image, label=label
    )


@pytest.mark.parametrize(
    ("looks", "became"),
    [
        ({}, {}),
        ({4: 6}, {4: PLANTED}),  # rain in spring
        ({6: 4}, {6: BARE}),  # a dry summer
        ({4: 6, 6: 4}, {4: PLANTED, 6: BARE}),
        ({4: 1}, {}),  # built upon: not to be seen in the greenness
    ],
)
@pytest.mark.parametrize(
    ("red", "infrared"), [(1.0, 1.0), (1.25, 0.8), (0.8, 1.25), (0.7, 0.7)], ids=str
)
def test_ground_that_turned_is_found_under_any_light(
    drawn: Scene,
    tmp_path: Path,
    looks: dict[int, int],
    became: dict[int, int],
    red: float,
    infrared: float,
) -> None:
    light = np.array([red, 1, 1, infrared])[:, None, None]
    image = (town(looks)[0] * light).clip(0, 255).astype(np.uint8)
    write(image, drawn, tmp_path / "town_2018_1.tif")
    ((scene, images),) = scenes_by_year([drawn], tmp_path)
    assert scene is drawn
    assert images["2016"] is drawn
    other = images["2018"]
    assert (other.year, other.place, other.transferred) == ("2018", "town", False)
    for value in range(1, 7):
        assert np.unique(other.label[inside(value)]).tolist() == [became.get(value, value)]


def test_only_bare_and_planted_ground_turns_and_only_beyond_all_limits() -> None:
    rng = np.random.default_rng(5)
    label = rng.integers(0, 7, (60, 70), dtype=np.uint8)
    was, now = (rng.uniform(-0.2, 1.2, label.shape).astype(np.float32) for _ in range(2))
    result = relabeled(label, was, now)
    for value, a, b, after in zip(label.flat, was.flat, now.flat, result.flat, strict=True):
        if value == BARE and b > GREEN and b - a > CHANGE:
            assert after == PLANTED
        elif value == PLANTED and b < DRY and a - b > CHANGE:
            assert after == BARE
        else:
            assert after == value


def test_a_place_without_trees_has_no_scale_and_keeps_its_labels(
    drawn: Scene, tmp_path: Path
) -> None:
    write(town({4: 6})[0], drawn, tmp_path / "town_2018_1.tif")
    few = drawn.label.copy()
    few[few == 5] = 0
    few[-20:, -25 - SIDE : -SIDE] = 5
    few[-1, -1 - SIDE] = 0  # one less than are needed
    assert (few == 5).sum() == MIN_PIXELS - 1
    bare = replace(drawn, label=few)
    ((_, images),) = scenes_by_year([bare], tmp_path)
    assert (images["2018"].label == few).all()
    alike = replace(drawn, image=town({5: 2})[0])  # trees as gray as roads tell nothing apart
    assert Greenness.of([alike]) is None


def test_the_scale_of_a_place_is_that_of_all_its_scenes(drawn: Scene, tmp_path: Path) -> None:
    without = drawn.label.copy()
    without[without == 5] = 0
    second = replace(drawn, name="town_2016_2", label=without)
    other = replace(drawn, name="elsewhere_2016_1", place="elsewhere", label=without)
    for name in ("town_2018_1", "town_2018_2", "elsewhere_2018_1"):
        write(town({4: 6})[0], drawn, tmp_path / f"{name}.tif")
    result = {
        s.name: images["2018"] for s, images in scenes_by_year([drawn, second, other], tmp_path)
    }
    assert (result["town_2016_2"].label[inside(4)] == PLANTED).all()
    assert (result["elsewhere_2016_1"].label == without).all()


def test_greenness_is_0_on_roads_and_1_on_trees(drawn: Scene) -> None:
    scale = Greenness.of([drawn])
    assert scale is not None
    green = scale.on(drawn.image)
    assert green[inside(5)] == pytest.approx(1.0)
    assert np.median(green[np.isin(drawn.label, (1, 2))]) == pytest.approx(0.0, abs=1e-6)


def test_the_mean_around_a_pixel_is_that_of_its_25() -> None:
    band = np.random.default_rng(1).integers(0, 256, (13, 17), dtype=np.uint8)
    framed = np.pad(band, 2, mode="edge").astype(float)
    for row, col in np.ndindex(13, 17):
        assert _mean(band)[row, col] == pytest.approx(framed[row : row + 5, col : col + 5].mean())


def test_an_image_of_another_year_must_lie_on_the_scenes_pixels(
    drawn: Scene, tmp_path: Path
) -> None:
    off = replace(drawn, transform=drawn.transform.translation(0.5, 0) @ drawn.transform)
    write(drawn.image, off, tmp_path / "town_2018_1.tif")
    with pytest.raises(AssessmentError, match=r"town_2018_1\.tif does not lie on the pixels"):
        list(scenes_by_year([drawn], tmp_path))
