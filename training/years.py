"""Does a model say the same of a place in every year? Its images of other years against the label
of one, and against each other.

A label of one year mostly holds in the others; what was built or felled in between counts as wrong,
so agreement and accuracy are lower bounds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from training.assessment import Measured, Table, joined, once, rows_of, sum_of
from training.errors import AssessmentError
from training.evaluate import Subject, classify
from training.metrics import Counts, contingency
from training.progress import Say, echo
from training.scenes import BANDS, CLASSES, Label, Scene

NAME = re.compile(r"(?P<place>.+)_(?P<year>\d{4})_(?P<number>\d+)")
"""File names of one piece of ground differ in the year only: `claremont_2016_0`."""


class YearTable(BaseModel):
    """Pixels of one ground in one year: label (row) by class predicted (column)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    year: str
    contingency: Table


class PairTable(BaseModel):
    """Labelled pixels of one ground in two years: class in `first` (row) by class in `second`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: str
    second: str
    contingency: Table


class Ground(BaseModel):
    """One labelled piece of ground in every year there is imagery of; years ascending."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    place: str
    label_year: str
    years: Annotated[tuple[YearTable, ...], Field(min_length=1)]
    pairs: tuple[PairTable, ...]


class Years(Measured):
    """A model over the years, ground by ground."""

    kind: Literal["years"] = "years"
    grounds: Annotated[tuple[Ground, ...], Field(min_length=1)]

    def in_all_of(self, years: Sequence[str]) -> tuple[Ground, ...]:
        """The grounds with imagery of every one of `years`: the same pixels in each."""
        return tuple(g for g in self.grounds if set(years) <= {y.year for y in g.years})


def year_tables(grounds: Sequence[Ground]) -> dict[str, Counts]:
    """Contingency by year over all grounds, years ascending: int64 (6, 6) each."""
    years = sorted({y.year for g in grounds for y in g.years})
    return {
        year: sum_of(y.contingency for g in grounds for y in g.years if y.year == year)
        for year in years
    }


def pair_tables(grounds: Sequence[Ground]) -> dict[tuple[str, str], Counts]:
    """Agreement by pair of years over all grounds: int64 (6, 6) each, earlier year by later."""
    pairs = sorted({(p.first, p.second) for g in grounds for p in g.pairs})
    return {
        pair: sum_of(p.contingency for g in grounds for p in g.pairs if (p.first, p.second) == pair)
        for pair in pairs
    }


def years_of(
    subject: Subject,
    scenes: Sequence[Scene],
    folder: Path,
    *,
    command: str,
    say: Say = echo,
) -> Years:
    """Classifies, for each labelled scene whose ground has imagery of other years in `folder`,
    every year of it, and compares on the labelled pixels.

    Raises AssessmentError when no scene has another year, or when an image of the same name does
    not lie on the same pixels.
    """
    grounds = []
    for scene in scenes:
        images = images_of(scene, folder)
        if len(images) < 2:
            continue
        known = scene.label > 0
        classes: dict[str, Label] = {}
        for year, image in sorted(images.items()):
            classes[year] = classify(subject.session, image).classes
            known &= classes[year] <= CLASSES
        ground = _ground(scene, classes, known)
        grounds.append(ground)
        shares = ", ".join(f"{y.year} {_share(y.contingency):.3f}" for y in ground.years)
        say(f"{scene.place} {scene.name}: {shares} of {int(known.sum()):,} pixels")
    if not grounds:
        raise AssessmentError(f"no labelled scene has imagery of another year in {folder}")
    seen = sorted({g.place for g in grounds} & set(subject.facts.places))
    return Years(
        commands=(command,), models=(subject.facts,), grounds=tuple(grounds), trained_on=tuple(seen)
    )


def images_of(scene: Scene, folder: Path) -> dict[str, Scene]:
    """The scene and its other years in `folder`, by year; each with the scene's label.

    A scene whose name holds no year has none. Raises AssessmentError for an image that does not
    lie on the scene's pixels.
    """
    found = {scene.year: scene}
    name = NAME.fullmatch(scene.name)
    if name is None:
        return found
    for path in sorted(folder.glob(f"{name['place']}_[0-9][0-9][0-9][0-9]_{name['number']}.tif")):
        other = NAME.fullmatch(path.stem)
        if other is None or other["year"] == scene.year:
            continue
        with rasterio.open(path) as source:
            if source.shape != scene.label.shape or not source.transform.almost_equals(
                scene.transform, 0.01 * scene.resolution
            ):
                raise AssessmentError(f"{path} does not lie on the pixels of {scene.name}")
            image = source.read(list(range(1, BANDS + 1)))
        found[other["year"]] = Scene(
            name=path.stem,
            place=scene.place,
            year=other["year"],
            image=image,
            label=scene.label,
            resolution=scene.resolution,
            epsg=scene.epsg,
            transform=scene.transform,
            path=path,
        )
    return found


def pooled_years(folds: Sequence[Years]) -> Years:
    """The folds of a cross-validation as one. AssessmentError when a ground comes twice."""
    common = joined(folds)
    return folds[0].model_copy(
        update=common | {"grounds": once(g for f in folds for g in f.grounds)}
    )


def _ground(scene: Scene, classes: dict[str, Label], known: NDArray[np.bool_]) -> Ground:
    reference = np.where(known, scene.label, 0).astype(np.uint8)
    shown = {year: np.where(known, c, 0).astype(np.uint8) for year, c in classes.items()}
    name = NAME.fullmatch(scene.name)
    return Ground(
        name=f"{name['place']}_{name['number']}" if name else scene.name,
        place=scene.place,
        label_year=scene.year,
        years=tuple(
            YearTable(year=year, contingency=rows_of(contingency(reference, c, CLASSES)))
            for year, c in shown.items()
        ),
        pairs=tuple(
            PairTable(
                first=a, second=b, contingency=rows_of(contingency(shown[a], shown[b], CLASSES))
            )
            for a, b in combinations(sorted(shown), 2)
        ),
    )


def _share(table: Table) -> float:
    values = np.array(table)
    return float(np.trace(values) / max(1, values.sum()))
