"""Confidence intervals of accuracy figures, and the reliability of the model's confidence.

Pixels of a place are not independent, so the bootstrap resamples whole places with replacement
(Field & Welsh 2007, "Bootstrapping clustered data"), not pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluate.metrics import scores
from training.evaluate.results import PER_CENT, Evaluation

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0


@dataclass(frozen=True)
class Interval:
    """Lower and upper bound; both nan when unknown."""

    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Intervals of an evaluation's figures, and the method in words. `f1` has one interval per
    class, in the legend's order.
    """

    method: str
    overall: Interval
    mean_of_places: Interval
    macro_f1: Interval
    kappa: Interval
    f1: tuple[Interval, ...]


def intervals(
    evaluation: Evaluation, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = SEED
) -> Intervals:
    """Return the percentile bootstrap over clusters: places, where there are at least MIN_PLACES of
    them, otherwise pieces of ground. Each resample draws as many, with replacement, as there are.

    The same evaluation and seed give the same intervals. With one cluster every bound is nan. A
    class that a resample lacks is not in its macro F1.
    """
    what, tables = evaluation.clusters()
    clusters = np.stack(list(tables.values()))
    count = len(clusters)
    if count < 2:
        none = Interval(float("nan"), float("nan"))
        return Intervals(
            f"no interval: one {what} only",
            none,
            none,
            none,
            none,
            (none,) * len(evaluation.legend.classes),
        )
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    own = np.array([scores(table).overall for table in clusters])
    result = [scores(table) for table in np.tensordot(draws, clusters, axes=1)]
    if what == "place":
        known = np.where(np.isnan(own), 0.0, own)
        weight = draws @ (~np.isnan(own)).astype(np.float64)
        means = np.divide(draws @ known, weight, out=np.full(resamples, np.nan), where=weight > 0)
    else:
        means = np.full(resamples, np.nan)

    def interval(values: NDArray[np.float64]) -> Interval:
        known = values[~np.isnan(values)]
        if not known.size:
            return Interval(float("nan"), float("nan"))
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
        return Interval(float(low), float(high))

    # A class that was predicted but has no reference pixel would count as 0.
    f1 = np.array([np.where(s.pixels > 0, s.f1, np.nan) for s in result])
    return Intervals(
        method=(
            f"{100 * level:g} % percentile bootstrap over {count} {_plural(what)} "
            f"({resamples:,} draws, seed {seed})"
        ),
        overall=interval(np.array([s.overall for s in result])),
        mean_of_places=interval(means),
        macro_f1=interval(np.array([s.macro_f1 for s in result])),
        kappa=interval(np.array([s.kappa for s in result])),
        f1=tuple(interval(f1[:, i]) for i in range(f1.shape[1])),
    )


@dataclass(frozen=True)
class Bin:
    """Pixels predicted with a confidence of `low` to `high` percent (the upper bound only in the
    last bin): count, mean confidence and accuracy, 0..1."""

    low: int
    high: int
    pixels: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """Accuracy by confidence, and the expected calibration error, 0..1."""

    bins: tuple[Bin, ...]
    error: float


def reliability(evaluation: Evaluation, bins: int = 10) -> Reliability:
    """Return the reliability curve over `bins` equal bins and the expected calibration error: the
    mean over pixels of |accuracy − confidence| of their bin (Guo et al. 2017, equation 3).

    Bins without pixels are left out. ValueError when 100 is no multiple of `bins`.
    """
    if bins < 1 or (PER_CENT - 1) % bins:
        raise ValueError(f"bins must divide {PER_CENT - 1}, got {bins}")
    pixels = np.sum([s.confidence for s in evaluation.scenes], axis=0)
    right = np.sum([s.right for s in evaluation.scenes], axis=0)
    width = (PER_CENT - 1) // bins
    index = np.minimum(np.arange(PER_CENT) // width, bins - 1)
    result, error = [], 0.0
    for number in range(bins):
        inside = index == number
        n = int(pixels[inside].sum())
        if not n:
            continue
        sure = float((np.arange(PER_CENT)[inside] * pixels[inside]).sum()) / n / 100
        accuracy = float(right[inside].sum()) / n
        error += n * abs(accuracy - sure)
        result.append(Bin(number * width, (number + 1) * width, n, sure, accuracy))
    total = int(pixels.sum())
    return Reliability(tuple(result), error / total if total else float("nan"))


def _plural(what: str) -> str:
    return "places" if what == "place" else "pieces of ground"
