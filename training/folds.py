"""A spatial split of chips: whoever is near, overlaps or shows another year is on the same side.

Chips within a margin of each other, in any year and across UTM zones, form a group; chips of one
named place and the groups they touch form a place. Where everything hangs together (a labeled
quad), squares of ground take the part of places, and chips nearer than the margin to another side
are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.errors import SplitError
from training.files import write_json
from training.ground import Pairs, near_pairs, places_of, squares_of
from training.manifest import Chip, Manifest


class SplitSettings(BaseModel):
    """How chips are shared out. Lengths are meters on the ground."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 20261123

    margin_m: Annotated[float, Field(ge=0)] = 64.0
    """Ground between chips of different sides."""

    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the labeled pixels by which checkpoints are chosen."""

    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share that nothing but the evaluation sees; 0 where `held_out` names the test."""

    held_out: tuple[str, ...] = ()
    """Places that are the test as a whole, in place of `test_share`."""

    folds: Annotated[int, Field(ge=0)] = 0
    """Folds of the cross-validation; 0: leave one place out, each in turn."""

    block_m: Annotated[float, Field(gt=0)] = 512.0
    """Side of the squares of ground where chips are not in at least `min_places` places."""

    min_places: Annotated[int, Field(ge=2)] = 3
    """With fewer places, ground is cut into squares: three sides need three places."""


class Sides(BaseModel):
    """Ids of chips by side. dropped: too near to another side."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    dropped: tuple[str, ...] = ()


class ChipSplit(BaseModel):
    """The split of one folder of chips. places: name → ids of chips. folds: the cross-validation,
    each place in exactly one fold's test.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: SplitSettings
    unit: Literal["place", "square"]
    places: dict[str, tuple[str, ...]]
    sides: Sides
    folds: tuple[Sides, ...]

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))

    def of(self, fold: str | None) -> Sides:
        """The sides of a fold, or of the split itself. Raises SplitError for an unknown fold."""
        if fold is None:
            return self.sides
        for sides in self.folds:
            if sides.name == fold:
                return sides
        raise SplitError(f"no fold {fold!r}; there are {[s.name for s in self.folds]}")


def read_split(path: Path) -> ChipSplit:
    """Raises SplitError when the file is missing or is no split."""
    if not path.is_file():
        raise SplitError(f"no split at {path}")
    try:
        return ChipSplit.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise SplitError(f"{path} is not a split: {error}") from error


@dataclass(frozen=True)
class _Ground:
    """Chips, what is near what, and the unit (place or square) that each belongs to."""

    chips: Sequence[Chip]
    near: Pairs
    unit: NDArray[np.intp]
    names: tuple[str, ...]
    size: NDArray[np.int64]
    """Labeled pixels of each unit."""


def split_chips(manifest: Manifest, settings: SplitSettings) -> ChipSplit:
    """Raises SplitError when a held-out place does not exist, or a side would be empty."""
    chips = manifest.chips
    near = near_pairs(manifest, settings.margin_m)
    place_of, names = places_of(manifest, near)
    kind: Literal["place", "square"] = "place"
    unit = place_of
    if missing := sorted(set(settings.held_out) - set(names)):
        raise SplitError(f"held-out places {missing} are not among the places {sorted(names)}")
    if len(names) < settings.min_places and not settings.held_out:
        kind = "square"
        unit, names = squares_of(manifest, place_of, names, settings.block_m)
    pixels = np.array([sum(c.pixels) for c in chips], np.int64)
    size = np.bincount(unit, weights=pixels, minlength=len(names)).astype(np.int64)
    ground = _Ground(chips, near, unit, tuple(names), size)
    rng = np.random.default_rng(settings.seed)
    order = rng.permutation(len(names)).tolist()
    if settings.held_out:
        test = {i for i, name in enumerate(names) if name in settings.held_out}
    else:
        test = _share(ground, order, set(), settings.test_share)
    validation = _share(ground, order, test, settings.validation_share)
    sides = _sides("split", ground, validation, test)
    for side in ("train", "validation"):
        if not getattr(sides, side):
            raise SplitError(
                f"{len(chips)} chips lie in {len(names)} {kind}(s) of ground: nothing is left for "
                f"{side}. Label ground farther apart than {settings.margin_m:g} m, or set a "
                "smaller margin or block"
            )
    members = {
        name: tuple(chips[i].id for i in np.flatnonzero(unit == number))
        for number, name in enumerate(names)
    }
    return ChipSplit(
        settings=settings,
        unit=kind,
        places=members,
        sides=sides,
        folds=tuple(_cross_validation(ground, order, settings)),
    )


def _share(ground: _Ground, order: Sequence[int], taken: set[int], share: float) -> set[int]:
    """Units, in the drawn order, that come closest to a share of all labeled pixels: at least one
    where the share is not 0, and never the last that is free.
    """
    chosen: set[int] = set()
    wanted, have = share * ground.size.sum(), 0
    free = [i for i in order if i not in taken]
    for i in free:
        if share == 0 or len(chosen) == len(free) - 1:
            break
        if not chosen or have + ground.size[i] / 2 <= wanted:
            chosen.add(i)
            have += int(ground.size[i])
    return chosen


def _sides(name: str, ground: _Ground, validation: set[int], test: set[int]) -> Sides:
    """Chips by side; of two near chips on different sides the one to learn from is dropped, or the
    one to choose by where the other is of the test.
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
    """Each unit is tested in one fold: alone, or in one of k folds of about as many pixels."""
    units = len(ground.names)
    if settings.folds > units:
        raise SplitError(
            f"{settings.folds} folds of {units} pieces of ground: give at most {units}"
        )
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
