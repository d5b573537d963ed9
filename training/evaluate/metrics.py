"""Accuracy from a contingency table.

Rows are the reference, columns the prediction, both in the legend's order without background
(Congalton & Green 2019, chapter 5). A class without a single pixel has no figure: nan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Figures = NDArray[np.float64]


def contingency(reference: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int) -> Counts:
    """Count pixels by reference and prediction: int64 (classes, classes).

    Both arrays have the same shape and contain 0 (no label, no data) or 1..classes; pixels without
    a reference are not counted. Raises ValueError for a labeled pixel without a prediction, or for
    a value above `classes`.
    """
    if reference.shape != predicted.shape:
        raise ValueError(f"reference is {reference.shape}, prediction {predicted.shape}")
    known = reference > 0
    r, p = reference[known].astype(np.int64), predicted[known].astype(np.int64)
    for name, values in (("reference", r), ("prediction", p)):
        if values.size and (values.min() < 1 or values.max() > classes):
            bad = values[(values < 1) | (values > classes)][0]
            raise ValueError(f"{name} is {bad} on a labeled pixel; allowed are 1..{classes}")
    flat = np.bincount((r - 1) * classes + (p - 1), minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


@dataclass(frozen=True)
class Scores:
    """The figures of a contingency table; arrays are float64 (classes,), shares of 1."""

    pixels: Counts
    precision: Figures
    recall: Figures
    f1: Figures
    iou: Figures
    overall: float
    kappa: float

    @property
    def macro_f1(self) -> float:
        """Return the mean F1 over the classes that have reference pixels."""
        return _mean_of(self.f1, self.pixels > 0)


def scores(table: Counts) -> Scores:
    """Return precision, recall, F1, IoU per class, overall accuracy and Cohen's kappa of a
    table."""
    hits = np.diag(table).astype(np.float64)
    reference, predicted = table.sum(axis=1), table.sum(axis=0)
    total = float(table.sum())
    overall = _ratio(hits.sum(), total)
    chance = _ratio(float((reference * predicted.astype(np.float64)).sum()), total * total)
    return Scores(
        pixels=reference,
        precision=_ratios(hits, predicted),
        recall=_ratios(hits, reference),
        f1=_ratios(2 * hits, reference + predicted),
        iou=_ratios(hits, reference + predicted - hits),
        overall=overall,
        kappa=_ratio(overall - chance, 1.0 - chance),
    )


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _ratios(part: Figures, whole: NDArray[np.float64] | Counts) -> Figures:
    out = np.full(part.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


def _mean_of(values: Figures, where: NDArray[np.bool_]) -> float:
    return float(values[where].mean()) if where.any() else float("nan")
