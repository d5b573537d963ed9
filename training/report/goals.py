"""The figures that were asked for, beside those that were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training.assessment import Evaluation, Role, mean_of_places
from training.lowres import LowRes
from training.metrics import scores
from training.report.tables import NAMES, percent, share
from training.years import Years, year_tables

THREE_YEARS = ("2016", "2018", "2020")


@dataclass(frozen=True)
class Goal:
    """A figure that was asked for, and what was found."""

    what: str
    goal: str
    found: str
    met: bool


def goals(
    evaluations: Mapping[Role, Evaluation], years: Years | None, lowres: LowRes | None
) -> list[Goal]:
    """What was asked for, as far as it was measured."""
    found = []
    if unseen := evaluations.get("unseen"):
        s, mean = scores(unseen.table), mean_of_places(unseen)
        weak = _below(unseen, 2000, 0.60)
        found += [
            _goal("unseen places: overall, mean of places", "≥ 82 %", mean, 0.82),
            Goal("unseen places: macro F1", "≥ 0.75", share(s.macro_f1), s.macro_f1 >= 0.75),
            Goal(
                "unseen places: classes of ≥ 2,000 pixels under 0.60 F1",
                "none",
                ", ".join(weak) or "none",
                not weak,
            ),
        ]
    if region := evaluations.get("region"):
        s = scores(region.table)
        pairs = [
            (name, min(s.precision[i], s.recall[i]))
            for i, name in enumerate(NAMES)
            if s.pixels[i] >= 5000
        ]
        weak = [f"{name} {percent(low)}" for name, low in pairs if not low >= 0.84]
        found += [
            _goal("same region: overall", "≥ 90 %", s.overall, 0.90),
            Goal(
                "same region: precision or recall under 84 % (classes of ≥ 5,000 pixels)",
                "none",
                ", ".join(weak) or "none",
                not weak,
            ),
        ]
    if years is not None and years.in_all_of(THREE_YEARS):
        held, every = _apart(years.where_labels_hold), _apart(years)
        found.append(
            Goal(
                "three years: accuracies apart, where the label holds",
                "≤ 3 points",
                f"{100 * held:.1f} points (on all labeled pixels {100 * every:.1f})",
                round(held, 9) <= 0.03,
            )
        )
    if lowres is not None and 4 in lowres.factors:
        agree = scores(lowres.agreement(4)).overall
        found.append(_goal("4 m estimate: agreement with the 1 m mode", "≥ 85 %", agree, 0.85))
    return found


def _apart(years: Years) -> float:
    """The best of three years less the worst, in overall accuracy on the same pixels."""
    tables = year_tables(years.in_all_of(THREE_YEARS))
    each = [scores(tables[y]).overall for y in THREE_YEARS]
    return float(max(each) - min(each))


def _below(found: Evaluation, pixels: int, f1: float) -> list[str]:
    s = scores(found.table)
    return [
        f"{name} {share(s.f1[i])}"
        for i, name in enumerate(NAMES)
        if s.pixels[i] >= pixels and not s.f1[i] >= f1
    ]


def _goal(what: str, goal: str, found: float, least: float) -> Goal:
    return Goal(what, goal, percent(found), bool(not np.isnan(found) and found >= least))
