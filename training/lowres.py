"""Does the same network read coarser imagery? Its classes at 2, 4 and 8 m against the mode of its
own classes at 1 m, and against the labels.

The imagery is averaged over k x k pixels of the model's resolution and given to the network as it
is, the same weights, k times as much ground in a pixel: what the server shows below native zoom
where blocks are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from model.legend import NODATA
from model.segment import segment
from training.assessment import Measured, Table, joined, once, rows_of, sum_of
from training.errors import AssessmentError
from training.evaluate import Subject, at_resolution, onto, valid_of
from training.metrics import Counts, contingency
from training.progress import Say, echo
from training.scenes import CLASSES, Image, Label, Scene

FACTORS = (2, 4, 8)
"""Pixels of the model's resolution along a coarse pixel."""


class CoarseTables(BaseModel):
    """One scene at one resolution.

    `agreement`: coarse pixels, mode of the 1 m classes (row) by class of the coarse reading
    (column). `accuracy`: labeled pixels, label by the coarse reading's class placed on them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: int
    agreement: Table
    accuracy: Table


class CoarseScene(BaseModel):
    """One scene: label by class at the model's own resolution, and the coarse readings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    place: str
    accuracy: Table
    coarse: tuple[CoarseTables, ...]


class LowRes(Measured):
    """A model on imagery coarser than it was made for, scene by scene."""

    kind: Literal["lowres"] = "lowres"
    ground_resolution: float = Field(description="the model's own, meters")
    scenes: Annotated[tuple[CoarseScene, ...], Field(min_length=1)]

    @property
    def factors(self) -> tuple[int, ...]:
        """The factors read, ascending."""
        return tuple(sorted({c.factor for s in self.scenes for c in s.coarse}))

    def agreement(self, factor: int) -> Counts:
        """Over all scenes: int64 (6, 6), mode of the 1 m classes by coarse class."""
        return sum_of(c.agreement for s in self.scenes for c in s.coarse if c.factor == factor)

    def accuracy(self, factor: int = 1) -> Counts:
        """Over all scenes: int64 (6, 6), label by class read at that factor (1: as served)."""
        if factor == 1:
            return sum_of(s.accuracy for s in self.scenes)
        return sum_of(c.accuracy for s in self.scenes for c in s.coarse if c.factor == factor)


def lowres_of(
    subject: Subject,
    scenes: Sequence[Scene],
    *,
    command: str,
    factors: Sequence[int] = FACTORS,
    say: Say = echo,
) -> LowRes:
    """Reads every scene at the model's resolution and `factors` times coarser.

    Scenes coarser than the model's resolution say nothing here and are left out, aloud.
    AssessmentError when none is left.
    """
    native = subject.session.card.ground_resolution
    found = []
    for scene in scenes:
        if scene.resolution > native * 1.001:
            say(f"{scene.place} {scene.name}: {scene.resolution:g} m, left out")
            continue
        result = _scene(subject, scene, factors)
        found.append(result)
        shares = ", ".join(f"x{c.factor} {_share(c.agreement):.3f}" for c in result.coarse)
        say(f"{scene.place} {scene.name}: agreement {shares}")
    if not found:
        raise AssessmentError(f"no scene is as fine as the model's {native:g} m")
    places = {s.place for s in found}
    return LowRes(
        ground_resolution=native,
        commands=(command,),
        models=(subject.facts,),
        scenes=tuple(found),
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
    coarse = []
    for factor in factors:
        small = average(image, factor)
        classes = segment(session, small, valid_of(small)).classes
        mode = mode_of(fine, factor)
        coarse.append(
            CoarseTables(
                factor=factor,
                agreement=_table(np.where(mode <= CLASSES, mode, 0), classes),
                accuracy=_table(label, onto(classes, label.shape)),
            )
        )
    return CoarseScene(
        name=scene.name,
        place=scene.place,
        accuracy=_table(label, onto(fine, label.shape)),
        coarse=tuple(coarse),
    )


def average(image: Image, factor: int) -> Image:
    """The mean of every factor x factor pixels, rounded: uint8 (bands, rows, cols) whose sides are
    multiples of `factor`. A cell that is not wholly imagery (all bands zero) becomes zero.
    """
    bands, rows, cols = image.shape
    cells = image.reshape(bands, rows // factor, factor, cols // factor, factor)
    mean: Image = np.rint(cells.mean(axis=(2, 4))).astype(np.uint8)
    whole = valid_of(image).reshape(rows // factor, factor, cols // factor, factor).all(axis=(1, 3))
    return np.where(whole, mean, 0).astype(np.uint8)


def mode_of(classes: Label, factor: int) -> Label:
    """The most frequent class of every factor x factor pixels, NODATA where a pixel has none:
    uint8 (rows, cols) whose sides are multiples of `factor`.

    Ties turn among the tied classes with the position of the result, as in the server's pyramid:
    a fixed order would favor one class everywhere.
    """
    rows, cols = (n // factor for n in classes.shape)
    cells = classes.reshape(rows, factor, cols, factor)
    values = np.arange(1, CLASSES + 1)
    counts = (cells[None] == values[:, None, None, None, None]).sum(axis=(2, 4))
    tied = counts == counts.max(axis=0)
    turn = np.add.outer(np.arange(rows), np.arange(cols)) % tied.sum(axis=0)
    # The turn-th of the tied classes: the one before which exactly `turn` others are tied.
    chosen = tied & (tied.cumsum(axis=0) - 1 == turn)
    mode: Label = values[chosen.argmax(axis=0)].astype(np.uint8)
    return np.where((cells > CLASSES).any(axis=(1, 3)), NODATA, mode).astype(np.uint8)


def pooled_lowres(folds: Sequence[LowRes]) -> LowRes:
    """The folds of a cross-validation as one. AssessmentError when a scene comes twice."""
    common = joined(folds)
    return folds[0].model_copy(update=common | {"scenes": once(s for f in folds for s in f.scenes)})


def _table(reference: Label, classes: Label) -> Table:
    """Pixels where both have a class."""
    known = (reference > 0) & (classes <= CLASSES)
    seen, shown = (np.where(known, a, 0).astype(np.uint8) for a in (reference, classes))
    return rows_of(contingency(seen, shown, CLASSES))


def _share(table: Table) -> float:
    values = np.array(table)
    return float(np.trace(values) / max(1, values.sum()))
