"""Which chips lie near each other, in any year and UTM zone, and the place that each belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from training.groups import joined
from training.manifest import Chip, Manifest

Pairs = list[tuple[int, int]]


def near_pairs(manifest: Manifest, margin: float) -> Pairs:
    """Pairs of chips whose ground is less than `margin` meters apart or shared, in any year and
    across CRSs. Chips without position are near to all others without one of their place.
    """
    chips, scenes = manifest.chips, manifest.by_name
    epsgs = [scenes[c.scene].epsg for c in chips]
    boxes = np.array([ground_of(manifest, c) for c in chips], object)
    pairs: Pairs = []
    known = sorted({e for e in epsgs if e is not None})
    numbers = {e: np.array([i for i, x in enumerate(epsgs) if x == e]) for e in known}
    for n, here in enumerate(known):
        mine = numbers[here]
        tree = shapely.STRtree(boxes[mine])
        for other in known[n:]:
            theirs = numbers[other]
            shapes = boxes[theirs]
            if other != here:
                moving = Transformer.from_crs(other, here, always_xy=True)
                shapes = shapely.transform(shapes, moving.transform, interleaved=False)
                finite = np.isfinite(shapely.bounds(shapes)).all(axis=1)
                theirs, shapes = theirs[finite], shapes[finite]
            one, two = tree.query(shapes, predicate="dwithin", distance=margin)
            for i, j in zip(theirs[one].tolist(), mine[two].tolist(), strict=True):
                if i != j and (other != here or i < j):
                    pairs.append((min(i, j), max(i, j)))
    lost: dict[str, list[int]] = {}
    for i, epsg in enumerate(epsgs):
        if epsg is None:
            lost.setdefault(scenes[chips[i].scene].place, []).append(i)
    for members in lost.values():
        pairs += [(members[0], i) for i in members[1:]]
    return pairs


def ground_of(manifest: Manifest, chip: Chip) -> shapely.Polygon:
    """The ground a chip covers, clipped to its image, in units of its image's CRS."""
    scene = manifest.by_name[chip.scene]
    a, _, c, _, e, f = scene.transform
    bottom = min(chip.row + manifest.size, scene.shape[0])
    right = min(chip.col + manifest.size, scene.shape[1])
    return shapely.box(c + chip.col * a, f + bottom * e, c + right * a, f + chip.row * e)


def places_of(manifest: Manifest, near: Pairs) -> tuple[NDArray[np.intp], list[str]]:
    """Each chip's place: the named places, joined where their chips are near; elsewhere pieces of
    ground, named after their first image.
    """
    chips, scenes = manifest.chips, manifest.by_name
    first: dict[str, int] = {}
    same: Pairs = []
    for i, chip in enumerate(chips):
        if name := scenes[chip.scene].place:
            same.append((first.setdefault(name, i), i))
    number = np.zeros(len(chips), np.intp)
    names: list[str] = []
    for n, members in enumerate(joined(len(chips), [*near, *same])):
        number[members] = n
        named = sorted({scenes[chips[i].scene].place for i in members} - {""})
        name = "+".join(named) or chips[members[0]].scene
        names.append(name if name not in names else f"{name}#{n}")
    return number, names


def squares_of(
    manifest: Manifest, place: NDArray[np.intp], names: Sequence[str], side: float
) -> tuple[NDArray[np.intp], list[str]]:
    """Squares of `side` meters of each place, by the chips' centers; the same in every year."""
    chips = manifest.chips
    keys: list[tuple[str, int, int]] = []
    frame: dict[int, int | None] = {}
    for i, chip in enumerate(chips):
        epsg = manifest.by_name[chip.scene].epsg
        home = frame.setdefault(int(place[i]), epsg)
        center = ground_of(manifest, chip).centroid
        x, y = center.x, center.y
        if epsg is not None and home is not None and epsg != home:
            x, y = Transformer.from_crs(epsg, home, always_xy=True).transform(x, y)
        keys.append((names[int(place[i])], int(x // side), int(y // side)))
    order = sorted(set(keys))
    at = {key: n for n, key in enumerate(order)}
    return np.array([at[k] for k in keys]), [f"{name} {x},{y}" for name, x, y in order]
