"""Figures as tables, every one with the pixels behind it. A table is built once, for both pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.legend import LEGEND, Legend
from training.evaluate.confidence import Interval, Intervals, Reliability
from training.evaluate.lowres import LowRes
from training.evaluate.metrics import Counts, scores
from training.evaluate.results import Evaluation, table_of
from training.evaluate.years import Years, pair_tables, year_tables

NAMES = tuple(c.name for c in LEGEND.classes)

Cells = Sequence[str]


@dataclass(frozen=True)
class Table:
    """Head and rows of text; the first `texts` columns are words, the others figures."""

    head: Cells
    rows: Sequence[Cells]
    texts: int = 1

    def __str__(self) -> str:
        """Return the table in Markdown."""
        rule = ["---"] * self.texts + ["--:"] * (len(self.head) - self.texts)
        lines = [_line(self.head), "|" + "|".join(rule) + "|", *map(_line, self.rows)]
        return "\n".join(lines)


def names_of(legend: Legend) -> tuple[str, ...]:
    """Return the names of the classes."""
    return tuple(c.name for c in legend.classes)


def by_class(
    counts: Counts, intervals: Intervals | None = None, names: Sequence[str] = NAMES
) -> Table:
    """Return pixels, precision, recall, F1 (and its interval) and IoU of every class; a dash where
    no pixel of the class was there to be found."""
    s = scores(counts)
    rows = []
    for i, name in enumerate(names):
        if not s.pixels[i]:
            rows.append([name, "0", *["–"] * 4])
            continue
        f1 = percent(s.f1[i]) + (between(intervals.f1[i]) if intervals else "")
        figures = (percent(s.precision[i]), percent(s.recall[i]), f1, percent(s.iou[i]))
        rows.append([name, f"{s.pixels[i]:,}", *figures])
    return Table(["class", "pixels", "precision", "recall", "F1", "IoU"], rows)


def before_after(before: Counts, after: Counts, names: Sequence[str] = NAMES) -> Table:
    """Return precision, recall and F1 of every class, and overall accuracy, of two tables of the
    same labels."""
    one, other = scores(before), scores(after)
    rows = []
    for i, name in enumerate(names):
        pairs = ((one.precision, other.precision), (one.recall, other.recall), (one.f1, other.f1))
        known = one.pixels[i] > 0
        cells = [f"{percent(a[i])} → {percent(b[i])}" if known else "–" for a, b in pairs]
        rows.append([name, f"{one.pixels[i]:,}", *cells])
    overall = f"{percent(one.overall)} → {percent(other.overall)}"
    macro = f"{percent(one.macro_f1)} → {percent(other.macro_f1)}"
    rows.append(["overall accuracy, macro F1", f"{one.pixels.sum():,}", overall, "", macro])
    return Table(["class", "pixels", "precision", "recall", "F1"], rows)


def contingency_table(counts: Counts, names: Sequence[str] = NAMES) -> Table:
    """Return pixels by reference (rows) and prediction (columns)."""
    rows = [[name, *(f"{n:,}" for n in row)] for name, row in zip(names, counts, strict=True)]
    return Table([r"reference \ predicted", *names], rows)


def by_place(evaluation: Evaluation) -> Table:
    """Return every place with its scenes, pixels, overall accuracy, macro F1 and kappa."""
    rows = []
    for place, scenes in evaluation.places.items():
        s = scores(table_of(scenes))
        seen = " (trained on)" if place in evaluation.trained_on else ""
        figures = (percent(s.overall), share(s.macro_f1), share(s.kappa))
        rows.append([place + seen, str(len(scenes)), f"{s.pixels.sum():,}", *figures])
    return Table(["place", "scenes", "pixels", "overall", "macro F1", "kappa"], rows)


def by_confidence(curve: Reliability) -> Table:
    """Return the reliability curve."""
    rows = [
        [f"{b.low}–{b.high} %", f"{b.pixels:,}", percent(b.confidence), percent(b.accuracy)]
        for b in curve.bins
    ]
    return Table(["confidence", "pixels", "mean confidence", "accuracy"], rows)


def by_year(years: Years, wanted: Sequence[str]) -> Table:
    """Return the accuracy of the same labeled pixels in each of `wanted`, in all and by place."""
    grounds = years.in_all_of(wanted)
    rows = []
    for title in [*sorted({g.place for g in grounds}), "all"]:
        members = [g for g in grounds if title in {g.place, "all"}]
        tables = year_tables(members)
        each = [scores(tables[y]).overall for y in wanted]
        pixels = int(tables[wanted[0]].sum())
        spread = f"{100 * (max(each) - min(each)):.1f}"
        seen = " (trained on)" if title in years.trained_on else ""
        rows.append([title + seen, str(len(members)), f"{pixels:,}", *map(percent, each), spread])
    return Table(["place", "sites", "pixels", *wanted, "range, points"], rows)


def by_label_year(years: Years) -> Table:
    """Return the accuracy in the year that a label was drawn for, and in the other years."""
    rows = []
    for year in sorted({g.label_year for g in years.grounds}):
        grounds = [g for g in years.grounds if g.label_year == year]
        for other, counts in year_tables(grounds).items():
            s = scores(counts)
            same = "yes" if other == year else "no"
            rows.append([year, other, same, f"{s.pixels.sum():,}", percent(s.overall)])
    return Table(["label year", "imagery year", "same year", "pixels", "overall"], rows, texts=3)


def between_years(years: Years, wanted: Sequence[str] = ()) -> Table:
    """Return the share of labeled pixels with one class in both years of a pair, in all and by
    class."""
    rows = []
    for pair, counts in pair_tables(years.in_all_of(wanted)).items():
        if wanted and not set(pair) <= set(wanted):
            continue
        s = scores(counts)
        figures = [percent(s.overall), *map(percent, s.f1)]
        rows.append([" and ".join(pair), f"{s.pixels.sum():,}", *figures])
    return Table(
        ["years", "pixels", "same class", *(f"{n} (F1)" for n in names_of(years.legend))], rows
    )


def by_resolution(result: LowRes) -> Table:
    """Return agreement with the mode and accuracy against the labels, by resolution."""
    native = scores(result.accuracy())
    labeled = [f"{native.pixels.sum():,}", percent(native.overall)]
    rows = [[f"{result.ground_resolution:g} m", "–", "–", "–", *labeled]]
    for factor in result.factors:
        agree, right = scores(result.agreement(factor)), scores(result.accuracy(factor))
        rows.append(
            [
                f"{result.ground_resolution * factor:g} m",
                f"{agree.pixels.sum():,}", percent(agree.overall), share(agree.kappa),
                f"{right.pixels.sum():,}", percent(right.overall),
            ]
        )  # fmt: skip
    head = ["read at", "coarse pixels", "agree with the mode", "kappa", "labeled pixels", "overall"]
    return Table(head, rows)


def classes_by_resolution(result: LowRes) -> Table:
    """Return agreement per class and resolution: coarse pixels of the mode, and F1 against it."""
    head = ["class"]
    columns = []
    for factor in result.factors:
        meters = f"{result.ground_resolution * factor:g} m"
        head += [f"pixels, {meters}", f"F1, {meters}"]
        columns.append(scores(result.agreement(factor)))
    rows = [
        [name, *(cell for s in columns for cell in (f"{s.pixels[i]:,}", percent(s.f1[i])))]
        for i, name in enumerate(names_of(result.legend))
    ]
    return Table(head, rows)


def percent(value: float) -> str:
    """Return a share in percent with one decimal; a dash for nan."""
    return "–" if np.isnan(value) else f"{100 * value:.1f} %"


def share(value: float) -> str:
    """Return a share with three decimals; a dash for nan."""
    return "–" if np.isnan(value) else f"{value:.3f}"


def between(interval: Interval) -> str:
    """Return an interval of shares in percent, to follow a figure; empty when it is unknown."""
    if np.isnan(interval.low):
        return ""
    return f" ({100 * interval.low:.1f}–{100 * interval.high:.1f})"


def between_shares(interval: Interval) -> str:
    """Return an interval of shares, to follow a share; empty when it is unknown."""
    return "" if np.isnan(interval.low) else f" ({interval.low:.3f}–{interval.high:.3f})"


def _line(cells: Cells) -> str:
    return "| " + " | ".join(cells) + " |"
