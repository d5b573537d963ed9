"""The split of a list of chips and of Demo County: by ground, never by pixel or by year.

Real places are held out as a whole. Within the others, chips within a margin of each other form one
group, whatever their year, and a group is on one side. Demo County's quads overlap, so held-out
ground is cut out of every scene of every year.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.coords import BoundingBox

from model.legend import Legend
from training.config import Preset
from training.data.scenes import Scene, quarter
from training.errors import SplitError

MIN_GROUPS = 4
"""Places with fewer separate groups give none of them to validation."""

MIN_SIDE = 64
"""Pieces of a cut scene narrower than this many pixels are dropped."""


@dataclass(frozen=True)
class Split:
    """Scenes to train on, to select checkpoints by, and to report on."""

    train: tuple[Scene, ...]
    validation: tuple[Scene, ...]
    test: tuple[Scene, ...]


def share_lines(sides: Mapping[str, NDArray[np.int64]], legend: Legend) -> list[str]:
    """Return in words what share of the labeled pixels is on every side, and which classes of the
    others it lacks. sides: name → pixels of every class, int64 (classes,); those with none are left
    out.
    """
    kept = {name: counts for name, counts in sides.items() if counts.any()}
    total = sum((counts.sum() for counts in kept.values()), np.int64(0))
    shares = [f"{name} {100 * counts.sum() / total:.1f} %" for name, counts in kept.items()]
    lines = [f"labeled pixels: {', '.join(shares)}"] if shares else []
    there = np.any([counts > 0 for counts in kept.values()], axis=0) if kept else []
    for name, counts in kept.items():
        lacking = [
            c.name
            for c, n, any_ in zip(legend.classes, counts, there, strict=True)
            if any_ and not n
        ]
        if lacking:
            lines.append(f"warning: {name} has no pixel of {', '.join(lacking)}")
    return lines


def split_places(scenes: Iterable[Scene], preset: Preset) -> Split:
    """Split real scenes: the places `preset.held_out` are the test; of every other place a share
    of the groups is validation, drawn by the preset's seed.

    Raises SplitError when a held-out place that the preset names (not its default) is not among the
    scenes, or no training scene is left.
    """
    scenes = sorted(scenes, key=lambda s: (s.place, s.name))
    places = sorted({s.place for s in scenes})
    held_out = set(preset.held_out)
    if "held_out" not in preset.model_fields_set:
        held_out &= set(places)
    if missing := sorted(held_out - set(places)):
        raise SplitError(f"held-out places {missing} are not among the places {places}")
    train: list[Scene] = []
    validation: list[Scene] = []
    for place in places:
        if place in held_out:
            continue
        members = [s for s in scenes if s.place == place]
        groups = group_by_ground(members, preset.margin_m)
        wanted = 0.0 if len(groups) < MIN_GROUPS else preset.validation_share * len(members)
        order = np.random.default_rng([preset.seed, *place.encode()]).permutation(len(groups))
        taken = 0
        for index in order:
            side = validation if taken + len(groups[index]) / 2 <= wanted else train
            side.extend(groups[index])
            taken += len(groups[index]) if side is validation else 0
    if not train:
        raise SplitError(f"every place of {places} is held out: nothing is left to train on")
    test = [s for s in scenes if s.place in held_out]
    return Split(tuple(train), tuple(validation), tuple(test))


def split_county(scenes: Iterable[Scene], preset: Preset) -> Split:
    """Split Demo County: the core of the quarter `preset.synthetic_held_out` is the test, a strip
    along the north of the core of `preset.synthetic_validation` is validation; training is all
    ground farther than the margin from both, in every scene and year.

    Raises SplitError when a quarter is missing or too small for its core.
    """
    scenes = sorted(scenes, key=lambda s: (s.year, s.name))
    test_ground = _core(scenes, preset.synthetic_held_out, preset.synthetic_core_m)
    core = _core(scenes, preset.synthetic_validation, preset.synthetic_core_m)
    strip = BoundingBox(core.left, core.top - preset.synthetic_strip_m, core.right, core.top)
    train = [
        piece
        for scene in scenes
        for part in cut_out(scene, _grown(test_ground, preset.margin_m))
        for piece in cut_out(part, _grown(strip, preset.margin_m))
    ]
    if not train:
        raise SplitError("Demo County is too small: nothing is left to train on")
    return Split(
        train=tuple(train),
        validation=tuple(
            cut_to(s, strip) for s in scenes if quarter(s) == preset.synthetic_validation
        ),
        test=tuple(
            cut_to(s, test_ground) for s in scenes if quarter(s) == preset.synthetic_held_out
        ),
    )


def group_by_ground(scenes: list[Scene], margin: float) -> list[list[Scene]]:
    """Group scenes whose bounds, in one CRS, are within `margin` meters of each other, directly or
    through others. Scenes of unknown position of one place are one group: they may touch.
    """
    groups: list[list[Scene]] = []
    for scene in scenes:
        near = [g for g in groups if any(_near(scene, other, margin) for other in g)]
        groups = [g for g in groups if not any(g is n for n in near)]
        groups.append([scene, *(member for g in near for member in g)])
    return groups


def cut_out(scene: Scene, hole: BoundingBox) -> list[Scene]:
    """Return the scene without the ground in `hole` (its CRS, meters): up to four rectangles north,
    south, west and east of it; the scene itself where they do not meet.
    """
    rows, cols = scene.label.shape
    top, left, bottom, right = _pixels(scene, hole)
    if top >= rows or left >= cols or bottom <= 0 or right <= 0:
        return [scene]
    top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, rows), min(right, cols)
    pieces = {
        "north": (0, 0, top, cols),
        "south": (bottom, 0, rows - bottom, cols),
        "west": (top, 0, bottom - top, left),
        "east": (top, right, bottom - top, cols - right),
    }
    return [
        scene.window(*piece, suffix=f":{side}")
        for side, piece in pieces.items()
        if min(piece[2], piece[3]) >= MIN_SIDE
    ]


def cut_to(scene: Scene, ground: BoundingBox) -> Scene:
    """Return the part of the scene inside `ground`. Raises SplitError when they do not meet."""
    top, left, bottom, right = _pixels(scene, ground)
    rows, cols = scene.label.shape
    top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, rows), min(right, cols)
    if top >= bottom or left >= right:
        raise SplitError(f"{scene.name} does not reach the ground {tuple(ground)}")
    return scene.window(top, left, bottom - top, right - left, suffix=":core")


def _core(scenes: list[Scene], name: str, inside: float) -> BoundingBox:
    bounds = [s.bounds for s in scenes if quarter(s) == name]
    if not bounds:
        there = sorted({quarter(s) for s in scenes})
        raise SplitError(f"Demo County has no quarter {name!r}; it has {there}")
    left, bottom = max(b.left for b in bounds), max(b.bottom for b in bounds)
    right, top = min(b.right for b in bounds), min(b.top for b in bounds)
    core = _grown(BoundingBox(left, bottom, right, top), -inside)
    if core.left >= core.right or core.bottom >= core.top:
        raise SplitError(
            f"quarter {name!r} is {right - left:g} x {top - bottom:g} m: "
            f"nothing lies {inside:g} m inside it"
        )
    return core


def _grown(box: BoundingBox, by: float) -> BoundingBox:
    return BoundingBox(box.left - by, box.bottom - by, box.right + by, box.top + by)


def _pixels(scene: Scene, ground: BoundingBox) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right in whole pixels that cover `ground`, unclipped."""
    t = scene.transform
    left, right = (ground.left - t.c) / t.a, (ground.right - t.c) / t.a
    top, bottom = (ground.top - t.f) / t.e, (ground.bottom - t.f) / t.e
    tiny = 1e-6
    return (
        int(np.floor(top + tiny)),
        int(np.floor(left + tiny)),
        int(np.ceil(bottom - tiny)),
        int(np.ceil(right - tiny)),
    )


def _near(a: Scene, b: Scene, margin: float) -> bool:
    if a.place != b.place:
        return False
    if a.epsg is None or b.epsg is None:
        return a.epsg is b.epsg
    if a.epsg != b.epsg:
        return False
    x, y = a.bounds, b.bounds
    apart = max(x.left - y.right, y.left - x.right, x.bottom - y.top, y.bottom - x.top)
    return bool(apart < margin)
