"""The network on coarser imagery: its classes at 2, 4 and 8 m against the mode of its own classes
at 1 m, and against the labels.

Imagery is averaged over k x k pixels and given to the unchanged network, as the server does below
native zoom where blocks are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from model.segment import segment
from training.config.base import StrictModel
from training.data.resolution import (
    FACTORS,
    at_resolution,
    block_mean,
    mode_with_tiebreak,
    resize_nearest,
    valid_of,
)
from training.data.scenes import Label, Scene
from training.errors import AssessmentError
from training.evaluate.evaluation import Subject
from training.evaluate.metrics import Counts, contingency
from training.evaluate.results import Measured, Table, accuracy_of, rows_of, sum_of
from training.progress import Log, print_line


class CoarseTables(StrictModel):
    """One scene at one resolution.

    `agreement`: coarse pixels, mode of the 1 m classes (row) by class at the coarse resolution
    (column). `accuracy`: labeled pixels, label (row) by class at the coarse resolution (column).
    """

    factor: int
    agreement: Table
    accuracy: Table


class CoarseScene(StrictModel):
    """One scene: label by class at the model's own resolution, and at the coarse ones."""

    name: str
    place: str
    accuracy: Table
    coarse: tuple[CoarseTables, ...]


class LowRes(Measured):
    """A model on imagery coarser than its own resolution, scene by scene."""

    kind: Literal["lowres"] = "lowres"
    ground_resolution: float = Field(description="the model's own, meters")
    scenes: Annotated[tuple[CoarseScene, ...], Field(min_length=1)]

    @property
    def factors(self) -> tuple[int, ...]:
        """Return the factors, ascending."""
        return tuple(sorted({c.factor for s in self.scenes for c in s.coarse}))

    def agreement(self, factor: int) -> Counts:
        """Return int64 (classes, classes) over all scenes: mode of the 1 m classes by coarse
        class."""
        return sum_of(c.agreement for s in self.scenes for c in s.coarse if c.factor == factor)

    def accuracy(self, factor: int = 1) -> Counts:
        """Return int64 (classes, classes) over all scenes: label by class at that factor (1: as
        served)."""
        if factor == 1:
            return sum_of(s.accuracy for s in self.scenes)
        return sum_of(c.accuracy for s in self.scenes for c in s.coarse if c.factor == factor)


def lowres_of(
    subject: Subject,
    scenes: Sequence[Scene],
    *,
    command: str,
    factors: Sequence[int] = FACTORS,
    log: Log = print_line,
) -> LowRes:
    """Classify every scene at the model's resolution and `factors` times coarser.

    Scenes coarser than the model's resolution are skipped and logged. AssessmentError when none is
    left.
    """
    native = subject.session.card.ground_resolution
    results = []
    for scene in scenes:
        if scene.resolution > native * 1.001:
            log(f"{scene.place} {scene.name}: {scene.resolution:g} m, skipped")
            continue
        result = _scene(subject, scene, factors)
        results.append(result)
        shares = ", ".join(f"x{c.factor} {accuracy_of(c.agreement):.3f}" for c in result.coarse)
        log(f"{scene.place} {scene.name}: agreement {shares}")
    if not results:
        raise AssessmentError(f"no scene is as fine as the model's {native:g} m")
    places = {s.place for s in results}
    return LowRes(
        ground_resolution=native,
        commands=(command,),
        models=(subject.facts,),
        legend=subject.session.card.legend,
        scenes=tuple(results),
        trained_on=tuple(sorted(places & set(subject.facts.places))),
    )


def _scene(subject: Subject, scene: Scene, factors: Sequence[int]) -> CoarseScene:
    session = subject.session
    image = at_resolution(scene, session.card.ground_resolution)
    # Whole coarse pixels only: the same ground at every resolution.
    rows, cols = (n - n % max(factors) for n in image.shape[1:])
    label = scene.label[
        : round(scene.label.shape[0] * rows / image.shape[1]),
        : round(scene.label.shape[1] * cols / image.shape[2]),
    ]
    image = image[:, :rows, :cols]
    if not image.size:
        raise AssessmentError(f"{scene.name} is smaller than {max(factors)} pixels")
    fine = segment(session, image, valid_of(image)).classes
    coarse, count = [], len(session.card.legend.classes)
    for factor in factors:
        small = block_mean(image, factor)
        classes = segment(session, small, valid_of(small)).classes
        mode = mode_with_tiebreak(fine, factor, count)
        coarse.append(
            CoarseTables(
                factor=factor,
                agreement=_table(np.where(mode <= count, mode, 0), classes, count),
                accuracy=_table(label, resize_nearest(classes, label.shape), count),
            )
        )
    return CoarseScene(
        name=scene.name,
        place=scene.place,
        accuracy=_table(label, resize_nearest(fine, label.shape), count),
        coarse=tuple(coarse),
    )


def _table(reference: Label, classes: Label, count: int) -> Table:
    """Count the pixels where both have a class."""
    known = (reference > 0) & (classes <= count)
    seen, shown = (np.where(known, a, 0).astype(np.uint8) for a in (reference, classes))
    return rows_of(contingency(seen, shown, count))
