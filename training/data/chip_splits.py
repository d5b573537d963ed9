"""The split of a folder of chips: chips of the same ground are on one side, in every year.

Chips within a margin of each other, in any year and across UTM zones, form a piece of ground; chips
of one named place and the pieces they touch form a place. Sides are made of whole places, unless
that leaves too little to train on: then of pieces of ground, within the places, or, where there are
too few of them (one labeled quad), of squares; chips within the margin of another side are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from pyproj import Transformer

from training.config.base import StrictModel
from training.data.files import write_json
from training.data.manifest import Chip, Manifest, connected_components
from training.data.splits import share_lines
from training.errors import SplitError

Unit = Literal["place", "piece", "square"]

MIN_TRAINING = 0.6
"""Share of the labeled pixels to train on with which a split is not wasteful."""


class SplitSettings(StrictModel):
    """How chips are split. Lengths are meters on the ground."""

    seed: int = 20261123

    margin_m: Annotated[float, Field(ge=0)] = 64.0
    """Buffer between chips of different sides."""

    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the labeled pixels by which checkpoints are selected."""

    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share that only the evaluation uses; not used where `held_out` names the test."""

    held_out: tuple[str, ...] = ()
    """Places that are the test as a whole, instead of `test_share`."""

    folds: Annotated[int, Field(ge=0)] = 0
    """Folds of the cross-validation; 0: leave one place out."""

    unit: Literal["auto", "place", "piece", "square"] = "auto"
    """What sides are made of: whole places, pieces of ground within them, or squares. `auto`: the
    first of them that leaves at least three fifths of the labeled pixels to train on, else the one
    that leaves most."""

    block_m: Annotated[float, Field(gt=0)] = 512.0
    """Side of the squares; `auto` also tries half of it."""

    min_places: Annotated[int, Field(ge=2)] = 3
    """Three sides need at least three places; with fewer, ground is split within them."""


class Sides(StrictModel):
    """Ids of chips by side. dropped: too close to another side."""

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    dropped: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return the number of chips of each side in words."""
        return (
            f"{len(self.train):,} chips to train on, {len(self.validation):,} for validation, "
            f"{len(self.test):,} for the test, {len(self.dropped):,} dropped, too close to "
            "another side"
        )


class ChipSplit(StrictModel):
    """The split of a folder of chips. places: name → ids of chips, of the units that sides are made
    of. folds: the cross-validation, each place (or unit, with few places) in the test of exactly
    one fold.
    """

    settings: SplitSettings
    unit: Unit
    places: dict[str, tuple[str, ...]]
    sides: Sides
    folds: tuple[Sides, ...]

    def write(self, path: Path) -> None:
        """Write the JSON that `read_split` reads."""
        write_json(path, self.model_dump(mode="json"))

    def of(self, fold: str | None) -> Sides:
        """Return the sides of a fold, or of the split itself. Raises SplitError for an unknown
        fold."""
        if fold is None:
            return self.sides
        for sides in self.folds:
            if sides.name == fold:
                return sides
        raise SplitError(f"no fold {fold!r}; there are {[s.name for s in self.folds]}")


def read_split(path: Path) -> ChipSplit:
    """Read a split. Raises SplitError when the file is missing or is no split."""
    if not path.is_file():
        raise SplitError(f"no split at {path}")
    try:
        return ChipSplit.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise SplitError(f"{path} is not a split: {error}") from error


@dataclass(frozen=True)
class _Ground:
    """Chips, pairs of nearby chips, and the unit (place or square) that each belongs to."""

    chips: Sequence[Chip]
    near: Pairs
    unit: NDArray[np.intp]
    names: tuple[str, ...]
    size: NDArray[np.int64]
    """Labeled pixels of each unit."""


def split_chips(manifest: Manifest, settings: SplitSettings) -> ChipSplit:
    """Split chips by ground. Raises SplitError when a held-out place does not exist, or a side
    would be empty."""
    near = nearby_pairs(manifest, settings.margin_m)
    places = _Units("place", *places_of(manifest, near))
    if missing := sorted(set(settings.held_out) - set(places.names)):
        raise SplitError(
            f"held-out places {missing} are not among the places {sorted(places.names)}"
        )
    offered = list(_offered(manifest, near, places, settings))
    tried = [_try(manifest, near, units, settings) for units in offered]
    best = next((t for t in tried if t.trained >= MIN_TRAINING), max(tried, key=_training_share))
    for side in ("train", "validation"):
        if not getattr(best.sides, side):
            raise SplitError(
                f"{len(manifest.chips)} chips lie in {len(best.ground.names)} {best.kind}(s) of "
                f"ground: nothing is left for {side}. Label ground farther apart than "
                f"{settings.margin_m:g} m, or set a smaller margin or block"
            )
    folds = best
    if best.kind != "place" and len(places.names) >= settings.min_places:
        folds = _try(manifest, near, places, settings)
    members = {
        name: tuple(manifest.chips[i].id for i in np.flatnonzero(best.ground.unit == number))
        for number, name in enumerate(best.ground.names)
    }
    return ChipSplit(
        settings=settings,
        unit=best.kind,
        places=members,
        sides=best.sides,
        folds=tuple(_cross_validation(folds.ground, folds.order, settings)),
    )


@dataclass(frozen=True)
class _Units:
    """What sides may be made of: the unit of every chip, intp (n,), and the units' names."""

    kind: Unit
    number: NDArray[np.intp]
    names: Sequence[str]


@dataclass(frozen=True)
class _Trial:
    """A split by one kind of unit. trained: share of the labeled pixels to train on, 0 when a side
    is empty."""

    kind: Unit
    ground: _Ground
    order: list[int]
    sides: Sides
    trained: float


def _training_share(trial: _Trial) -> float:
    return trial.trained


def _offered(
    manifest: Manifest, near: Pairs, places: _Units, settings: SplitSettings
) -> Iterator[_Units]:
    """Yield the units to try, the strictest first."""
    if settings.held_out or settings.unit == "place":
        yield places
        return
    auto = settings.unit == "auto"
    if auto and len(places.names) >= settings.min_places:
        yield places
    if auto or settings.unit == "piece":
        yield _Units("piece", *pieces_of(manifest, near, places.number, places.names))
    if auto or settings.unit == "square":
        for side in (settings.block_m, settings.block_m / 2)[: 2 if auto else 1]:
            squares = squares_of(manifest, places.number, places.names, side)
            yield _Units("square", *squares)


def _try(manifest: Manifest, near: Pairs, units: _Units, settings: SplitSettings) -> _Trial:
    chips = manifest.chips
    pixels = np.array([sum(c.pixels) for c in chips], np.int64)
    size = np.bincount(units.number, weights=pixels, minlength=len(units.names)).astype(np.int64)
    ground = _Ground(chips, near, units.number, tuple(units.names), size)
    order = np.random.default_rng(settings.seed).permutation(len(units.names)).tolist()
    if settings.held_out:
        test = {i for i, name in enumerate(units.names) if name in settings.held_out}
    else:
        test = _share(ground, order, set(), settings.test_share)
    validation = _share(ground, order, test, settings.validation_share)
    sides = _sides("split", ground, validation, test)
    needed = [sides.train, sides.validation]
    needed += [sides.test] if settings.held_out or settings.test_share else []
    train = set(sides.train)
    trained = sum(int(n) for n, c in zip(pixels, chips, strict=True) if c.id in train)
    share = trained / max(1, int(pixels.sum())) if all(needed) else 0.0
    return _Trial(units.kind, ground, order, sides, share)


def share_lines_of(manifest: Manifest, sides: Sides) -> list[str]:
    """Return the shares of the sides in words (see `splits.share_lines`)."""
    none = np.zeros(len(manifest.legend.classes), np.int64)
    counts = {}
    for name in ("train", "validation", "test", "dropped"):
        ids = set(getattr(sides, name))
        pixels = (np.array(c.pixels, np.int64) for c in manifest.chips if c.id in ids)
        counts["training" if name == "train" else name] = sum(pixels, none)
    return share_lines(counts, manifest.legend)


def _share(ground: _Ground, order: Sequence[int], taken: set[int], share: float) -> set[int]:
    """Return units, in the drawn order, that come closest to a share of all labeled pixels: at
    least one where the share is not 0, and never the last free one.
    """
    selected: set[int] = set()
    wanted, have = share * ground.size.sum(), 0
    free = [i for i in order if i not in taken]
    for i in free:
        if share == 0 or len(selected) == len(free) - 1:
            break
        if not selected or have + ground.size[i] / 2 <= wanted:
            selected.add(i)
            have += int(ground.size[i])
    return selected


def _sides(name: str, ground: _Ground, validation: set[int], test: set[int]) -> Sides:
    """Return chips by side. Of two nearby chips on different sides the training chip is dropped,
    or the validation chip where the other is in the test.
    """
    rank = np.zeros(len(ground.chips), np.int8)
    rank[np.isin(ground.unit, list(validation))] = 1
    rank[np.isin(ground.unit, list(test))] = 2
    dropped = np.zeros(len(ground.chips), bool)
    for i, j in ground.near:
        if rank[i] != rank[j]:
            dropped[i if rank[i] < rank[j] else j] = True
    ids = np.array([c.id for c in ground.chips], object)
    train, valid, tested = (tuple(ids[(rank == r) & ~dropped]) for r in range(3))
    return Sides(name=name, train=train, validation=valid, test=tested, dropped=tuple(ids[dropped]))


def _cross_validation(
    ground: _Ground, order: Sequence[int], settings: SplitSettings
) -> list[Sides]:
    """Return folds that test each unit once: alone, or in one of k folds of about equal size."""
    units = len(ground.names)
    if settings.folds > units:
        raise SplitError(f"{settings.folds} folds of {units} units of ground: give at most {units}")
    if settings.folds:
        tests: list[set[int]] = [set() for _ in range(settings.folds)]
        for i in sorted(order, key=lambda i: -int(ground.size[i])):
            min(tests, key=lambda t: (sum(int(ground.size[u]) for u in t), len(t))).add(i)
        named = [(f"fold_{n + 1}", test) for n, test in enumerate(tests)]
    else:
        named = [(name, {i}) for i, name in enumerate(ground.names)]
    folds = []
    for name, test in named:
        validation = _share(ground, order, test, settings.validation_share)
        if len(test | validation) < units:
            folds.append(_sides(name, ground, validation, test))
    return folds


Pairs = list[tuple[int, int]]


def nearby_pairs(manifest: Manifest, margin: float) -> Pairs:
    """Return pairs of chips whose ground is less than `margin` meters apart or overlaps, in any
    year and across CRSs. Chips of unknown position count as near the others of their place.
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
    """Return the ground that a chip covers, clipped to its image, in its image's CRS."""
    scene = manifest.by_name[chip.scene]
    a, _, c, _, e, f = scene.transform
    bottom = min(chip.row + manifest.size, scene.shape[0])
    right = min(chip.col + manifest.size, scene.shape[1])
    return shapely.box(c + chip.col * a, f + bottom * e, c + right * a, f + chip.row * e)


def places_of(manifest: Manifest, near: Pairs) -> tuple[NDArray[np.intp], list[str]]:
    """Return each chip's place, intp (n,), and the names: the named places, joined where their
    chips are near; elsewhere groups of nearby chips, named after their first image.
    """
    chips, scenes = manifest.chips, manifest.by_name
    first: dict[str, int] = {}
    same: Pairs = []
    for i, chip in enumerate(chips):
        if name := scenes[chip.scene].place:
            same.append((first.setdefault(name, i), i))
    number = np.zeros(len(chips), np.intp)
    names: list[str] = []
    for n, members in enumerate(connected_components(len(chips), [*near, *same])):
        number[members] = n
        named = sorted({scenes[chips[i].scene].place for i in members} - {""})
        name = "+".join(named) or chips[members[0]].scene
        names.append(name if name not in names else f"{name}#{n}")
    return number, names


def pieces_of(
    manifest: Manifest, near: Pairs, place: NDArray[np.intp], names: Sequence[str]
) -> tuple[NDArray[np.intp], list[str]]:
    """Return the pieces of ground that chips near each other form, numbered within their places."""
    number = np.zeros(len(manifest.chips), np.intp)
    pieces: list[str] = []
    counted: dict[int, int] = {}
    for n, members in enumerate(connected_components(len(manifest.chips), near)):
        home = int(place[members[0]])
        counted[home] = counted.get(home, 0) + 1
        number[members] = n
        pieces.append(f"{names[home]} {counted[home]}")
    return number, pieces


def squares_of(
    manifest: Manifest, place: NDArray[np.intp], names: Sequence[str], side: float
) -> tuple[NDArray[np.intp], list[str]]:
    """Return squares of `side` meters of each place, by the chips' centers; the same in every
    year."""
    chips = manifest.chips
    keys: list[tuple[str, int, int]] = []
    home_crs: dict[int, int | None] = {}
    for i, chip in enumerate(chips):
        epsg = manifest.by_name[chip.scene].epsg
        home = home_crs.setdefault(int(place[i]), epsg)
        center = ground_of(manifest, chip).centroid
        x, y = center.x, center.y
        if epsg is not None and home is not None and epsg != home:
            x, y = Transformer.from_crs(epsg, home, always_xy=True).transform(x, y)
        keys.append((names[int(place[i])], int(x // side), int(y // side)))
    order = sorted(set(keys))
    at = {key: n for n, key in enumerate(order)}
    return np.array([at[k] for k in keys]), [f"{name} {x},{y}" for name, x, y in order]
