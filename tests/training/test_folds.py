"""No ground, in any year or zone, is on two sides: held against a brute force over all pairs."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from training.data.chip_splits import (
    ChipSplit,
    Sides,
    SplitSettings,
    ground_of,
    nearby_pairs,
    read_split,
    share_lines_of,
    split_chips,
)
from training.data.manifest import Chip, ChipScene, Manifest, connected_components
from training.errors import SplitError

SIZE = 64


def manifest_of(*scenes: tuple[str, str, str, int | None, float, float, int, int]) -> Manifest:
    """Scenes (name, place, year, epsg, left, top, chips along, chips down), chips every 32 pixels,
    at 1 m.
    """
    chips, facts = [], []
    for name, place, year, epsg, left, top, across, down in scenes:
        facts.append(
            ChipScene(
                name=name, place=place, year=year, epsg=epsg, resolution=1.0,
                transform=(1, 0, left, 0, -1, top), shape=(32 * down + 32, 32 * across + 32),
                image_sha256="", label_sha256="",
            )
        )  # fmt: skip
        chips += [
            Chip(
                scene=name, row=32 * r, col=32 * c, file="1.h5", index=0,
                pixels=(9 + r, 0, 0, 0, 0, 0),
            )
            for r in range(down)
            for c in range(across)
        ]  # fmt: skip
    return Manifest(
        size=SIZE, stride=32, max_background=0.5, with_labels=0, dropped=0, classes=(),
        warnings=(), scenes=tuple(facts), chips=tuple(chips),
    )  # fmt: skip


def grounds(manifest: Manifest) -> dict[str, shapely.Geometry]:
    """Every chip's ground in one CRS (EPSG:26916)."""
    result = {}
    for chip in manifest.chips:
        ground = ground_of(manifest, chip)
        epsg = manifest.by_name[chip.scene].epsg
        if epsg != 26916:
            moving = Transformer.from_crs(epsg, 26916, always_xy=True)
            ground = shapely.transform(ground, moving.transform, interleaved=False)
        result[chip.id] = ground
    return result


def assert_apart(manifest: Manifest, sides: Sides, margin: float) -> None:
    ground = grounds(manifest)
    parts = {"train": sides.train, "validation": sides.validation, "test": sides.test}
    for (a, one), (b, other) in combinations(parts.items(), 2):
        for i in one:
            for j in other:
                assert ground[i].distance(ground[j]) > margin - 1e-6, f"{a} {i} and {b} {j}"


def assert_whole(manifest: Manifest, sides: Sides) -> None:
    """Every chip is on exactly one side, or dropped."""
    listed = [*sides.train, *sides.validation, *sides.test, *sides.dropped]
    assert sorted(listed) == sorted(c.id for c in manifest.chips)


scene = st.tuples(
    st.sampled_from(["", "", "north", "south"]),
    st.sampled_from(["2016", "2018"]),
    st.integers(0, 1500),
    st.integers(0, 1500),
    st.integers(1, 6),
    st.integers(1, 4),
)


def drawn(parts: list[tuple[str, str, int, int, int, int]]) -> Manifest:
    return manifest_of(
        *(
            (f"s{n}", place, year, 26916, 5e5 + x, 36e5 + y, across, down)
            for n, (place, year, x, y, across, down) in enumerate(parts)
        )
    )


@settings(max_examples=60)
@given(st.lists(scene, min_size=1, max_size=7), st.integers(0, 99), st.sampled_from([0.0, 64.0]))
def test_sides_are_farther_apart_than_the_margin(
    parts: list[tuple[str, str, int, int, int, int]], seed: int, margin: float
) -> None:
    manifest = drawn(parts)
    try:
        split = split_chips(manifest, SplitSettings(seed=seed, margin_m=margin, block_m=128))
    except SplitError as error:
        if "nothing is left" not in str(error):
            raise
        return
    for sides in (split.sides, *split.folds):
        assert_whole(manifest, sides)
        assert_apart(manifest, sides, margin)
    if split.unit == "place":
        assert not split.sides.dropped
    tested = [i for sides in split.folds for i in sides.test]
    assert len(tested) == len(set(tested))


@settings(max_examples=60)
@given(st.lists(scene, min_size=1, max_size=6), st.sampled_from([0.0, 10.0, 64.0]))
def test_near_chips_are_those_a_brute_force_finds(
    parts: list[tuple[str, str, int, int, int, int]], margin: float
) -> None:
    manifest = drawn(parts)
    ground = [ground_of(manifest, c) for c in manifest.chips]
    expected = {
        (i, j)
        for i, j in combinations(range(len(ground)), 2)
        if ground[i].distance(ground[j]) <= margin
    }
    assert set(nearby_pairs(manifest, margin)) == expected


@settings(max_examples=50)
@given(st.integers(1, 12), st.data())
def test_groups_are_the_closure_of_the_pairs(count: int, data: st.DataObject) -> None:
    number = st.integers(0, count - 1)
    pairs = data.draw(st.lists(st.tuples(number, number), max_size=14))
    reach = [[i == j for j in range(count)] for i in range(count)]
    for i, j in pairs:
        reach[i][j] = reach[j][i] = True
    for k in range(count):
        for i in range(count):
            for j in range(count):
                reach[i][j] |= reach[i][k] and reach[k][j]
    expected = {tuple(j for j in range(count) if reach[i][j]) for i in range(count)}
    result = connected_components(count, pairs)
    assert {tuple(g) for g in result} == expected
    assert len(result) == len(expected)


def test_scenes_of_two_zones_that_share_ground_are_on_one_side() -> None:
    moving = Transformer.from_crs(26916, 26917, always_xy=True)
    x, y = moving.transform(780_000.0, 36e5)
    manifest = manifest_of(
        ("west", "", "2017", 26916, 780_000, 36e5, 2, 2),
        ("east", "", "2017", 26917, x + 20, y, 2, 2),
        *((f"far{n}", "", "2017", 26916, 5e5 + 999 * n, 36e5, 2, 2) for n in range(4)),
    )
    split = split_chips(manifest, SplitSettings())
    (place,) = [p for p in split.places.values() if "west:0:0" in p]
    assert "east:0:0" in place
    assert_apart(manifest, split.sides, 60)


def test_years_of_one_place_share_its_side() -> None:
    manifest = manifest_of(
        *((f"{n}_{y}", "", y, 26916, 5e5 + 999 * n, 36e5, 1, 1)
          for n in range(6) for y in ("2016", "2018"))
    )  # fmt: skip
    split = split_chips(manifest, SplitSettings())
    assert split.unit == "place"
    for sides in (split.sides, *split.folds):
        for side in (sides.train, sides.validation, sides.test):
            years = {i.replace("2016", "").replace("2018", "") for i in side}
            assert len(side) == 2 * len(years)


def test_leaving_one_place_out_tests_each_place_whole_and_once() -> None:
    manifest = manifest_of(
        *((f"{p}{n}", p, "2017", 26916, 5e5 + 9999 * k + 500 * n, 36e5, 1, 1)
          for k, p in enumerate("abcd") for n in range(3))
    )  # fmt: skip
    split = split_chips(manifest, SplitSettings(held_out=("b",)))
    assert {i[0] for i in split.sides.test} == {"b"}
    assert "b" not in {i[0] for i in (*split.sides.train, *split.sides.validation)}
    assert [f.name for f in split.folds] == list("abcd")
    for fold in split.folds:
        assert {i[0] for i in fold.test} == {fold.name}
        assert len(fold.test) == 3
    three = split_chips(manifest, SplitSettings(folds=2))
    assert sorted(i for f in three.folds for i in f.test) == sorted(c.id for c in manifest.chips)
    with pytest.raises(SplitError, match="at most 4"):
        split_chips(manifest, SplitSettings(folds=5))
    with pytest.raises(SplitError, match="atlantis"):
        split_chips(manifest, SplitSettings(held_out=("atlantis",)))


def test_a_labeled_quad_is_cut_into_squares() -> None:
    manifest = manifest_of(("quad", "", "2017", 26916, 5e5, 36e5, 30, 30))
    split = split_chips(manifest, SplitSettings(block_m=256, margin_m=32))
    assert split.unit == "square"
    assert min(len(split.sides.train), len(split.sides.validation), len(split.sides.test)) > 10
    assert split.sides.dropped
    assert_apart(manifest, split.sides, 32)


def shares(manifest: Manifest, sides: Sides) -> list[float]:
    pixels = {c.id: sum(c.pixels) for c in manifest.chips}
    parts = (sides.train, sides.validation, sides.test)
    return [sum(pixels[i] for i in part) / sum(pixels.values()) for part in parts]


def test_few_places_are_split_within_and_waste_nothing() -> None:
    """Three places of ten separate chips: whole places would leave a third to train on."""
    manifest = manifest_of(
        *((f"{p}{n}", p, "2017", 26916, 5e5 + 99_999 * k + 500 * n, 36e5, 1, 1)
          for k, p in enumerate("abc") for n in range(10))
    )  # fmt: skip
    split = split_chips(manifest, SplitSettings())
    assert split.unit == "piece"
    train, validation, test = shares(manifest, split.sides)
    assert train == pytest.approx(0.7, abs=0.05)
    assert validation == pytest.approx(0.15, abs=0.04)
    assert test == pytest.approx(0.15, abs=0.04)
    assert not split.sides.dropped
    assert_apart(manifest, split.sides, 64)
    assert [f.name for f in split.folds] == list("abc")  # the cross-validation is by place
    whole = split_chips(manifest, SplitSettings(unit="place"))
    assert shares(manifest, whole.sides)[0] == pytest.approx(1 / 3)


def test_many_places_stay_whole() -> None:
    manifest = manifest_of(
        *((f"{p}{n}", p, "2017", 26916, 5e5 + 40_000 * k + 500 * n, 36e5, 1, 1)
          for k, p in enumerate("abcdefgh") for n in range(3))
    )  # fmt: skip
    split = split_chips(manifest, SplitSettings())
    assert split.unit == "place"
    for side in (split.sides.train, split.sides.validation, split.sides.test):
        assert len(side) == 3 * len({i[0] for i in side})


def test_shares_and_missing_classes_are_told() -> None:
    manifest = manifest_of(
        *((f"s{n}", "", "2017", 26916, 5e5 + 999 * n, 36e5, 1, 1) for n in range(10))
    )
    chips = list(manifest.chips)
    sides = Sides(
        name="split", train=tuple(c.id for c in chips[:7]),
        validation=tuple(c.id for c in chips[7:9]), test=(chips[9].id,),
    )  # fmt: skip
    chips[0] = chips[0].model_copy(update={"pixels": (9, 0, 8, 0, 0, 0)})
    chips[9] = chips[9].model_copy(update={"pixels": (9, 0, 0, 0, 0, 0)})
    lines = share_lines_of(manifest.model_copy(update={"chips": tuple(chips)}), sides)
    assert lines == [
        "labeled pixels: training 72.4 %, validation 18.4 %, test 9.2 %",
        "warning: validation has no pixel of water",
        "warning: test has no pixel of water",
    ]


def test_too_little_ground_is_refused() -> None:
    manifest = manifest_of(("chip", "", "2017", 26916, 5e5, 36e5, 1, 1))
    with pytest.raises(SplitError, match="nothing is left for"):
        split_chips(manifest, SplitSettings())


def test_a_split_is_what_it_was_after_reading(tmp_path: Path) -> None:
    manifest = manifest_of(
        *((f"s{n}", "", "2017", 26916, 5e5 + 999 * n, 36e5, 1, 1) for n in range(5))
    )
    split = split_chips(manifest, SplitSettings())
    assert split == split_chips(manifest, SplitSettings())
    split.write(tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split
    assert isinstance(split, ChipSplit)
    with pytest.raises(SplitError, match="no fold 'x'"):
        split.of("x")
    with pytest.raises(SplitError, match="no split"):
        read_split(tmp_path / "none.json")
    (tmp_path / "split.json").write_text("[]")
    with pytest.raises(SplitError, match="not a split"):
        read_split(tmp_path / "split.json")
