"""Accuracy-adjusted area after Olofsson et al. (2014), "Good practices for estimating area and
assessing accuracy of land change", Remote Sensing of Environment 148, 42–57.

A map that mistakes a fifth of the roofs for roads shows too few roofs and too many roads. A
contingency table of map against reference says how the mapped area of every class divides among
the true ones. Pixels of one place are alike, so the error is that between places (or scenes), where
the table is known by them, not that of pixels as if each were drawn on its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Z95 = 1.959963984540054
"""Half-width of a 95 % interval in standard errors."""

T95 = (12.706, 4.303, 3.182, 2.776, 2.571)
"""The same for 1 to 5 degrees of freedom (Student's t)."""

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Adjusted:
    """Estimated area of each class and its standard error, in the unit of the mapped areas.

    Float64 (classes,) each. `standard_error` is NaN where a mapped class has one reference unit
    only. `unassessed`: indices of classes that are mapped here and never in the table, or that no
    unit of the reference has; their area is taken as mapped, error unknown. `quantile`: half-width
    of a 95 % interval in standard errors.
    """

    area: Doubles
    standard_error: Doubles
    unassessed: tuple[int, ...]
    quantile: float = Z95

    def interval(self, index: int) -> tuple[float, float] | None:
        """Return (low, high) of the 95 % confidence interval, not below 0; None when unknown."""
        error = float(self.standard_error[index])
        if math.isnan(error):
            return None
        area = float(self.area[index])
        return max(0.0, area - self.quantile * error), area + self.quantile * error


def adjusted(
    mapped: Sequence[float] | Doubles,
    contingency: Sequence[Sequence[int]],
    clusters: Sequence[Sequence[Sequence[int]]] = (),
) -> Adjusted:
    """Return the areas by the stratified estimator, strata being the mapped classes.

    `mapped`: area of every class on the map. `contingency`: counts, row = reference class,
    column = mapped class, as on a model's card (the paper's tables are the other way round).
    `clusters`: the same counts by place or scene. ValueError when their sizes differ.

    With W_i the mapped share of class i and n_ij of its n_i units being j in the reference:
    p_ij = W_i n_ij / n_i (eq. 4), area of j = A Σ_i p_ij (eq. 9 and 11), and its standard error
    A √ Σ_i (W_i p_ij − p_ij²) / (n_i − 1) (eq. 10), or, if larger, that between the clusters.
    """
    areas = np.asarray(mapped, dtype=np.float64)
    counts = _table(contingency, len(areas))
    units, referenced = counts.sum(axis=1), counts.sum(axis=0) > 0
    unassessed = tuple(np.flatnonzero(((units == 0) & (areas > 0)) | ~referenced).tolist())
    total = float(areas.sum())
    if total <= 0:
        return Adjusted(np.zeros(len(areas)), np.where(referenced, 0.0, np.nan), unassessed)
    weight = areas / total
    assessed = (units > 0) & referenced
    shares = np.eye(len(areas))
    shares[assessed] = counts[assessed] / units[assessed, None]
    proportion = weight[:, None] * shares
    spread = weight[:, None] * proportion - proportion**2
    spread[spread < 0] = 0.0  # rounding
    # One unit says nothing of the spread, unless the class is not mapped at all.
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(areas[:, None] > 0, spread / (units - 1)[:, None], 0.0)
    variance[(units <= 1) & (areas > 0)] = np.nan
    # What no reference unit is says nothing of the others, and they nothing of it.
    variance[~referenced] = 0.0
    variance[~referenced, ~referenced] = np.nan
    summed, quantile = variance.sum(axis=0), Z95
    if len(clusters) > 1:
        tables = np.stack([_table(each, len(areas)) for each in clusters])
        summed = np.maximum(summed, _between(tables, weight, shares, units, assessed))
        quantile = t95(len(clusters) - 1)
    area = total * proportion.sum(axis=0)
    return Adjusted(area, total * np.sqrt(summed), unassessed, quantile)


def _table(contingency: Sequence[Sequence[int]], classes: int) -> Doubles:
    """Return counts by mapped class (rows) and reference, float64 (classes, classes)."""
    counts: Doubles = np.asarray(contingency, dtype=np.float64).T
    if counts.shape != (classes, classes):
        raise ValueError(f"a table of {classes} × {classes} is needed, got {counts.shape}")
    return counts


def _between(
    tables: Doubles,
    weight: Doubles,
    shares: Doubles,
    units: Doubles,
    assessed: npt.NDArray[np.bool_],
) -> Doubles:
    """Return the variance of every class's proportion between clusters, float64 (classes,).

    The shares are ratios of sums over clusters. Linearized, their error is the sum of the clusters'
    residuals z_c = Σ_i W_i (n_ijc − r_ij n_ic) / n_i, and its variance C / (C − 1) Σ_c z_c²
    (Cochran 1977, Sampling Techniques, section 6.3).
    """
    own = tables.sum(axis=2, keepdims=True)
    scale = np.where(assessed, weight / np.maximum(units, 1), 0.0)
    residual = (scale[None, :, None] * (tables - shares[None] * own)).sum(axis=1)
    count = len(tables)
    variance: Doubles = count / (count - 1) * np.square(residual).sum(axis=0)
    return variance


def t95(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t: by its table for up to 5 degrees of freedom,
    beyond by its expansion in 1 / freedom (Abramowitz & Stegun 26.7.5)."""
    if freedom <= len(T95):
        return T95[freedom - 1]
    z, n = Z95, freedom
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3
