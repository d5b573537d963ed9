"""Does a model say the same of a place in every year? Its images of other years against the label
of one, and against each other.

A label of one year mostly holds in the others. Everything is counted twice: over all labeled
pixels, and over those whose label holds in every year as far as the imagery shows (other_years.py).
What was built or felled in between counts as wrong in both, so these are lower bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from training.assessment import Measured, Table, joined, once, rows_of, sum_of
from training.errors import AssessmentError
from training.evaluate import Subject, classify
from training.metrics import Counts, contingency
from training.other_years import NAME, through_years
from training.progress import Say, echo
from training.scenes import CLASSES, Label, Scene


class YearTable(BaseModel):
    """Pixels of one ground in one year: label (row) by class predicted (column)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    year: str
    contingency: Table


class PairTable(BaseModel):
    """Labeled pixels of one ground in two years: class in `first` (row) by class in `second`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: str
    second: str
    contingency: Table


class Ground(BaseModel):
    """One labeled piece of ground in every year there is imagery of; years ascending."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    place: str
    label_year: str
    years: Annotated[tuple[YearTable, ...], Field(min_length=1)]
    pairs: tuple[PairTable, ...]


class Years(Measured):
    """A model over the years, ground by ground."""

    kind: Literal["years"] = "years"
    description: str = Field(default="", description="what the grounds are, in words")
    grounds: Annotated[tuple[Ground, ...], Field(min_length=1)]
    holding: Annotated[
        tuple[Ground, ...],
        Field(
            min_length=1,
            description="the same grounds, on the pixels whose label holds in every year",
        ),
    ]

    @property
    def where_labels_hold(self) -> Years:
        """The same, on the pixels whose label holds in every year of their ground."""
        return self.model_copy(update={"grounds": self.holding})

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
    description: str = "",
    say: Say = echo,
) -> Years:
    """Classifies, for each labeled scene whose ground has imagery of other years in `folder`,
    every year of it, and compares on the labeled pixels, and on those whose label holds.

    Raises AssessmentError when no scene has another year, or when an image of the same name does
    not lie on the same pixels.
    """
    grounds, holding = [], []
    for scene, images in through_years(scenes, folder):
        if len(images) < 2:
            continue
        known = scene.label > 0
        holds = np.ones_like(known)
        classes: dict[str, Label] = {}
        for year, image in images.items():
            classes[year] = classify(subject.session, image).classes
            known &= classes[year] <= CLASSES
            holds &= image.label == scene.label
        ground = _ground(scene, classes, known)
        grounds.append(ground)
        holds &= known
        holding.append(_ground(scene, classes, holds))
        shares = ", ".join(f"{y.year} {_share(y.contingency):.3f}" for y in ground.years)
        say(
            f"{scene.place} {scene.name}: {shares} of {int(known.sum()):,} pixels, "
            f"{int(holds.sum()):,} of them hold"
        )
    if not grounds:
        raise AssessmentError(f"no labeled scene has imagery of another year in {folder}")
    seen = sorted({g.place for g in grounds} & set(subject.facts.places))
    return Years(
        commands=(command,),
        models=(subject.facts,),
        trained_on=tuple(seen),
        description=description,
        grounds=tuple(grounds),
        holding=tuple(holding),
    )


def pooled_years(folds: Sequence[Years]) -> Years:
    """The folds of a cross-validation as one. AssessmentError when a ground comes twice."""
    common = joined(folds)
    return folds[0].model_copy(
        update=common
        | {
            "description": " ".join(dict.fromkeys(f.description for f in folds if f.description)),
            "grounds": once(g for f in folds for g in f.grounds),
            "holding": once(g for f in folds for g in f.holding),
        }
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
