"""Consistency over years: a model's classes of several years against the label of one year, and
against each other.

A label of one year mostly holds in the others. Everything is counted twice: over all labeled
pixels, and over those whose label holds in every year as far as the imagery shows (other_years.py).
Construction and clearing count as errors in both, so these are lower bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from training.config.base import StrictModel
from training.data.other_years import NAME, scenes_by_year
from training.data.scenes import CLASSES, Label, Scene
from training.errors import AssessmentError
from training.evaluate.evaluation import Subject, classify
from training.evaluate.metrics import Counts, contingency
from training.evaluate.results import Measured, Table, accuracy_of, rows_of, sum_of
from training.progress import Log, print_line


class YearTable(StrictModel):
    """Pixels of a site in one year: label (row) by class predicted (column)."""

    year: str
    contingency: Table


class PairTable(StrictModel):
    """Labeled pixels of a site in two years: class in `first` (row) by class in `second`."""

    first: str
    second: str
    contingency: Table


class Ground(StrictModel):
    """A labeled site in every year that there is imagery of, ascending."""

    name: str
    place: str
    label_year: str
    years: Annotated[tuple[YearTable, ...], Field(min_length=1)]
    pairs: tuple[PairTable, ...]


class Years(Measured):
    """A model over the years, site by site."""

    kind: Literal["years"] = "years"
    parts: ClassVar[tuple[str, ...]] = ("grounds", "holding")
    grounds: Annotated[tuple[Ground, ...], Field(min_length=1)]
    holding: Annotated[
        tuple[Ground, ...],
        Field(
            min_length=1,
            description="the same sites, on the pixels whose label holds in every year",
        ),
    ]

    @property
    def where_labels_hold(self) -> Years:
        """Return the same, on the pixels whose label holds in every year of their site."""
        return self.model_copy(update={"grounds": self.holding})

    def in_all_of(self, years: Sequence[str]) -> tuple[Ground, ...]:
        """Return the sites with imagery of every one of `years`: the same pixels in each."""
        return tuple(g for g in self.grounds if set(years) <= {y.year for y in g.years})


def year_tables(grounds: Sequence[Ground]) -> dict[str, Counts]:
    """Return contingency tables by year over all sites, years ascending: int64 (6, 6) each."""
    years = sorted({y.year for g in grounds for y in g.years})
    return {
        year: sum_of(y.contingency for g in grounds for y in g.years if y.year == year)
        for year in years
    }


def pair_tables(grounds: Sequence[Ground]) -> dict[tuple[str, str], Counts]:
    """Return agreement by pair of years over all sites: int64 (6, 6) each, earlier by later."""
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
    log: Log = print_line,
) -> Years:
    """Classify every year of each labeled scene that has imagery of other years in `folder`, and
    compare on the labeled pixels, and on those whose label holds.

    Raises AssessmentError when no scene has another year, or when an image of the same name is not
    on the same pixels.
    """
    grounds, holding = [], []
    for scene, images in scenes_by_year(scenes, folder):
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
        shares = ", ".join(f"{y.year} {accuracy_of(y.contingency):.3f}" for y in ground.years)
        log(
            f"{scene.place} {scene.name}: {shares} of {int(known.sum()):,} pixels, "
            f"the label of {int(holds.sum()):,} holds"
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
