"""Figures as Markdown tables, every one with the pixels behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.legend import LEGEND
from training.assessment import Evaluation, table_of
from training.confidence import Interval, Intervals, Reliability
from training.lowres import LowRes
from training.metrics import Counts, scores
from training.years import Years, pair_tables, year_tables

NAMES = tuple(c.name for c in LEGEND.classes)

Cells = Sequence[str]


def table(head: Cells, rows: Sequence[Cells], texts: int = 1) -> list[str]:
    """A Markdown table; the first `texts` columns are text, the others are set right."""
    rule = ["---"] * texts + ["--:"] * (len(head) - texts)
    return [_line(head), "|" + "|".join(rule) + "|", *map(_line, rows)]


def by_class(found: Counts, intervals: Intervals | None = None) -> list[str]:
    """Pixels, precision, recall, F1 (and its interval) and IoU of every class."""
    s = scores(found)
    head = ["class", "pixels", "precision", "recall", "F1", "IoU"]
    rows = []
    for i, name in enumerate(NAMES):
        f1 = percent(s.f1[i]) + (between(intervals.f1[i]) if intervals else "")
        figures = (percent(s.precision[i]), percent(s.recall[i]), f1, percent(s.iou[i]))
        rows.append([name, f"{s.pixels[i]:,}", *figures])
    return table(head, rows)


def contingency_table(found: Counts, corner: str = r"reference \ predicted") -> list[str]:
    """Pixels by reference (rows) and prediction (columns)."""
    rows = [[name, *(f"{n:,}" for n in row)] for name, row in zip(NAMES, found, strict=True)]
    return table([corner, *NAMES], rows)


def by_place(evaluation: Evaluation) -> list[str]:
    """Every place with its scenes, pixels, overall accuracy, macro F1 and kappa."""
    rows = []
    for place, scenes in evaluation.places.items():
        s = scores(table_of(scenes))
        seen = " (trained on)" if place in evaluation.trained_on else ""
        figures = (percent(s.overall), share(s.macro_f1), share(s.kappa))
        rows.append([place + seen, str(len(scenes)), f"{s.pixels.sum():,}", *figures])
    return table(["place", "scenes", "pixels", "overall", "macro F1", "kappa"], rows)


def by_confidence(found: Reliability) -> list[str]:
    """The reliability curve as a table."""
    rows = [
        [
            f"{b.low}–{b.high} %",
            f"{b.pixels:,}",
            percent(b.confidence),
            percent(b.accuracy),
        ]
        for b in found.bins
    ]
    return table(["confidence", "pixels", "mean confidence", "accuracy"], rows)


def by_year(years: Years, wanted: Sequence[str]) -> list[str]:
    """Accuracy of the same labeled pixels in every one of `wanted`, over all and by place."""
    grounds = years.in_all_of(wanted)
    places = sorted({g.place for g in grounds})
    rows = []
    for title, members in [
        *((p, [g for g in grounds if g.place == p]) for p in places),
        ("all", list(grounds)),
    ]:
        tables = year_tables(members)
        each = [scores(tables[y]).overall for y in wanted]
        pixels = int(tables[wanted[0]].sum())
        spread = f"{100 * (max(each) - min(each)):.1f}"
        seen = " (trained on)" if title in years.trained_on else ""
        rows.append([title + seen, str(len(members)), f"{pixels:,}", *map(percent, each), spread])
    return table(["place", "grounds", "pixels", *wanted, "points apart"], rows)


def own_year(years: Years) -> list[str]:
    """Accuracy in the year that a label was drawn for, beside the other years of its ground."""
    rows = []
    for year in sorted({g.label_year for g in years.grounds}):
        grounds = [g for g in years.grounds if g.label_year == year]
        for other, found in year_tables(grounds).items():
            s = scores(found)
            own = "the label's own" if other == year else "another"
            rows.append([year, other, own, f"{s.pixels.sum():,}", percent(s.overall)])
    return table(["label of", "imagery of", "year is", "pixels", "overall"], rows, texts=3)


def between_years(years: Years, wanted: Sequence[str] = ()) -> list[str]:
    """Labeled pixels that get one class in both years of a pair, over all and by class."""
    grounds = years.in_all_of(wanted)
    rows = []
    for (first, second), found in pair_tables(grounds).items():
        if wanted and not {first, second} <= set(wanted):
            continue
        s = scores(found)
        rows.append(
            [
                f"{first} and {second}",
                f"{s.pixels.sum():,}",
                percent(s.overall),
                *map(percent, s.f1),
            ]
        )
    return table(["years", "pixels", "same class", *(f"{n} (F1)" for n in NAMES)], rows)


def by_resolution(found: LowRes) -> list[str]:
    """Agreement with the mode and accuracy against the labels, by resolution."""
    native = scores(found.accuracy())
    rows = [
        [
            f"{found.ground_resolution:g} m",
            "–",
            "–",
            "–",
            _of(native.pixels),
            percent(native.overall),
        ]
    ]
    for factor in found.factors:
        agree, right = scores(found.agreement(factor)), scores(found.accuracy(factor))
        rows.append(
            [
                f"{found.ground_resolution * factor:g} m",
                _of(agree.pixels),
                percent(agree.overall),
                share(agree.kappa),
                _of(right.pixels),
                percent(right.overall),
            ]
        )
    head = [
        "read at",
        "coarse pixels",
        "agree with the mode",
        "kappa",
        "labeled pixels",
        "overall",
    ]
    return table(head, rows)


def classes_by_resolution(found: LowRes) -> list[str]:
    """Agreement per class and resolution: coarse pixels of the mode, and F1 against it."""
    rows = []
    for i, name in enumerate(NAMES):
        cells = [name]
        for factor in found.factors:
            s = scores(found.agreement(factor))
            cells += [f"{s.pixels[i]:,}", percent(s.f1[i])]
        rows.append(cells)
    head = ["class"]
    for factor in found.factors:
        meters = f"{found.ground_resolution * factor:g} m"
        head += [f"pixels, {meters}", f"F1, {meters}"]
    return table(head, rows)


def percent(value: float) -> str:
    """A share as per cent with one decimal; a dash for nan."""
    return "–" if np.isnan(value) else f"{100 * value:.1f} %"


def share(value: float) -> str:
    """A share with three decimals; a dash for nan."""
    return "–" if np.isnan(value) else f"{value:.3f}"


def between(interval: Interval) -> str:
    """An interval of shares in per cent, to stand behind a figure; nothing when it is unknown."""
    if np.isnan(interval.low):
        return ""
    return f" ({100 * interval.low:.1f}–{100 * interval.high:.1f})"


def between_shares(interval: Interval) -> str:
    """An interval of shares to stand behind a share; nothing when it is unknown."""
    return "" if np.isnan(interval.low) else f" ({interval.low:.3f}–{interval.high:.3f})"


def _of(pixels: Counts) -> str:
    return f"{int(pixels.sum()):,}"


def _line(cells: Cells) -> str:
    return "| " + " | ".join(cells) + " |"
