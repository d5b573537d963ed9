"""Accuracy-adjusted area after Olofsson et al. (2014), "Good practices for estimating area and
assessing accuracy of land change", Remote Sensing of Environment 148, 42–57.

A map that mistakes a fifth of the roofs for roads shows too few roofs and too many roads. A
contingency table of map against reference says how the mapped area of every class divides among
the true ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Z95 = 1.959963984540054
"""Half-width of a 95 % interval in standard errors."""

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Adjusted:
    """Estimated area of each class and its standard error, in the unit of the mapped areas.

    Float64 (classes,) each. `standard_error` is NaN where a mapped class has one reference unit
    only. `unassessed`: indices of classes that are mapped here and never in the table; their area
    is taken as mapped, error unknown.
    """

    area: Doubles
    standard_error: Doubles
    unassessed: tuple[int, ...]

    def interval(self, index: int) -> tuple[float, float] | None:
        """Return (low, high) of the 95 % confidence interval, not below 0; None when unknown."""
        error = float(self.standard_error[index])
        if math.isnan(error):
            return None
        area = float(self.area[index])
        return max(0.0, area - Z95 * error), area + Z95 * error


def adjusted(mapped: Sequence[float] | Doubles, contingency: Sequence[Sequence[int]]) -> Adjusted:
    """Return the areas by the stratified estimator, strata being the mapped classes.

    `mapped`: area of every class on the map. `contingency`: counts, row = reference class,
    column = mapped class, as on a model's card (the paper's tables are the other way round).
    ValueError when their sizes differ.

    With W_i the mapped share of class i and n_ij of its n_i units being j in the reference:
    p_ij = W_i n_ij / n_i (eq. 4), area of j = A Σ_i p_ij (eq. 9 and 11), and its standard error
    A √ Σ_i (W_i p_ij − p_ij²) / (n_i − 1) (eq. 10).
    """
    areas = np.asarray(mapped, dtype=np.float64)
    counts = np.asarray(contingency, dtype=np.float64).T
    if counts.shape != (len(areas), len(areas)):
        raise ValueError(f"a table of {len(areas)} × {len(areas)} is needed, got {counts.shape}")
    total = float(areas.sum())
    if total <= 0:
        return Adjusted(np.zeros(len(areas)), np.zeros(len(areas)), ())
    weight = areas / total
    units = counts.sum(axis=1)
    unassessed = np.flatnonzero((units == 0) & (areas > 0))
    assessed = units > 0
    shares = np.eye(len(areas))
    shares[assessed] = counts[assessed] / units[assessed, None]
    proportion = weight[:, None] * shares
    spread = weight[:, None] * proportion - proportion**2
    spread[spread < 0] = 0.0  # rounding
    # One unit says nothing of the spread, unless the class is not mapped at all.
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(areas[:, None] > 0, spread / (units - 1)[:, None], 0.0)
    variance[(units <= 1) & (areas > 0)] = np.nan
    error = total * np.sqrt(variance.sum(axis=0))
    return Adjusted(total * proportion.sum(axis=0), error, tuple(unassessed.tolist()))
