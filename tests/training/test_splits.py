"""No pixel of held-out ground is learned from: not by place, not by neighbor, not by year."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from training.config import Preset, load_preset
from training.data.scenes import Scene, read_chips
from training.data.splits import cut_out, cut_to, group_by_ground, split_county, split_places
from training.errors import SplitError

MakeScene = Callable[..., Scene]
CHIPS = Path(__file__).parents[3] / "shared" / "data" / "labels" / "chips.csv"


def apart(a: Scene, b: Scene) -> float:
    """Ground between two scenes in meters, along the axis that separates them most."""
    x, y = a.bounds, b.bounds
    gaps = (x.left - y.right, y.left - x.right, x.bottom - y.top, y.bottom - x.top)
    return float(max(gaps))


def straddles(one: tuple[Scene, ...], other: tuple[Scene, ...], margin: float) -> list[str]:
    """Pairs of one place and CRS whose ground is closer than `margin`."""
    return [
        f"{a.name} and {b.name}"
        for a, b in product(one, other)
        if a.place == b.place and a.epsg == b.epsg and apart(a, b) < margin
    ]


def towns(make_scene: MakeScene) -> list[Scene]:
    """Three towns of eight chips, each chip in two years; two chips of a town touch."""
    scenes = []
    for place, chip, year in product(("alpha", "beta", "gamma"), range(8), ("2016", "2018")):
        left = 500_000 + (96 if chip == 1 else chip * 1_000)
        scenes.append(make_scene(f"{place}_{chip}_{year}", place, year, left=left))
    return scenes


def test_a_held_out_place_is_in_the_test_only(make_scene: MakeScene) -> None:
    preset = Preset(name="t", held_out=("beta",), validation_share=0.3)
    split = split_places(towns(make_scene), preset)
    assert {s.place for s in split.test} == {"beta"}
    assert len(split.test) == 16
    assert (
        {s.place for s in split.train}
        == {s.place for s in split.validation}
        == {
            "alpha",
            "gamma",
        }
    )
    assert len(split.train) + len(split.validation) == 32


@pytest.mark.parametrize("seed", range(5))
def test_neighbors_and_years_of_one_place_never_straddle(make_scene: MakeScene, seed: int) -> None:
    preset = Preset(name="t", held_out=("beta",), validation_share=0.3, seed=seed)
    split = split_places(towns(make_scene), preset)
    assert split.validation
    assert straddles(split.train, split.validation, preset.margin_m) == []


def test_the_split_does_not_depend_on_the_order_of_scenes(make_scene: MakeScene) -> None:
    scenes = towns(make_scene)
    preset = Preset(name="t", held_out=("beta",))
    one, other = split_places(scenes, preset), split_places(scenes[::-1], preset)
    assert [s.name for s in one.validation] == [s.name for s in other.validation]


def test_an_unknown_held_out_place_is_refused(make_scene: MakeScene) -> None:
    with pytest.raises(SplitError, match="atlantis"):
        split_places(towns(make_scene), Preset(name="t", held_out=("atlantis",)))


def test_the_default_place_holds_out_nothing_in_a_list_without_it(make_scene: MakeScene) -> None:
    split = split_places(towns(make_scene), load_preset("default"))
    assert split.test == ()
    assert {s.place for s in split.train} == {"alpha", "beta", "gamma"}


def test_holding_out_everything_is_refused(make_scene: MakeScene) -> None:
    with pytest.raises(SplitError, match="nothing is left"):
        split_places(towns(make_scene), Preset(name="t", held_out=("alpha", "beta", "gamma")))


def test_scenes_join_through_others_and_without_position(make_scene: MakeScene) -> None:
    chain = [make_scene(str(i), left=500_000 + 150 * i) for i in range(3)]
    assert len(group_by_ground([chain[0], chain[2], chain[1]], 64)) == 1
    lost = [make_scene(str(i), left=9_000.0 * i, epsg=None) for i in range(3)]
    assert len(group_by_ground(lost, 64)) == 1


def county(make_scene: MakeScene) -> list[Scene]:
    """Four quarters of 400 m that overlap by 60, in two years."""
    corners = {"nw": (0, 0), "ne": (340, 0), "sw": (0, -340), "se": (340, -340)}
    return [
        make_scene(
            f"m_3308712_{name}_16_1_{year}0701",
            "demo_county",
            year,
            rows=400,
            cols=400,
            left=500_000 + x,
            top=3_700_000 + y,
            synthetic=True,
        )
        for name, (x, y) in corners.items()
        for year in ("2013", "2017")
    ]


def test_ground_of_the_held_out_core_is_in_no_training_scene(make_scene: MakeScene) -> None:
    preset = Preset(name="t", synthetic_core_m=60, synthetic_strip_m=80, margin_m=64)
    split = split_county(county(make_scene), preset)
    assert {s.year for s in split.test} == {s.year for s in split.train} == {"2013", "2017"}
    assert straddles(split.train, split.test, preset.margin_m) == []
    assert straddles(split.train, split.validation, preset.margin_m) == []
    assert straddles(split.validation, split.test, preset.margin_m) == []
    assert all(s.bounds.right - s.bounds.left == 280 for s in split.test)


def test_a_county_too_small_for_a_core_is_refused(make_scene: MakeScene) -> None:
    with pytest.raises(SplitError, match="nothing lies 300 m inside it"):
        split_county(county(make_scene), Preset(name="t", synthetic_core_m=300))


def test_cutting_out_keeps_every_other_pixel_once(make_scene: MakeScene) -> None:
    scene = make_scene(rows=400, cols=400)
    hole = cut_to(scene, scene.window(100, 120, 150, 160).bounds)
    pieces = cut_out(scene, hole.bounds)
    assert sum(p.label.size for p in pieces) == 400 * 400 - 150 * 160
    assert straddles(tuple(pieces), (hole,), 0) == []


def test_cutting_to_ground_elsewhere_is_refused(make_scene: MakeScene) -> None:
    with pytest.raises(SplitError, match="does not reach"):
        cut_to(make_scene(), make_scene(left=900_000).bounds)


@pytest.mark.real
@pytest.mark.skipif(not CHIPS.is_file(), reason="needs the labeled chips in ../shared/data")
def test_the_real_chips_are_split_by_ground() -> None:
    preset = Preset(name="t")
    split = split_places(read_chips(CHIPS, without=preset.left_out), preset)
    assert {s.place for s in split.test} == {"claremont"}
    assert "claremont" not in {s.place for s in (*split.train, *split.validation)}
    assert "nd" not in {s.place for s in (*split.train, *split.validation)}
    assert split.validation
    assert straddles(split.train, split.validation, preset.margin_m) == []
