"""One evaluation in Markdown, and what stands behind a result: models and commands."""

from __future__ import annotations

from training.assessment import Evaluation, Measured, mean_of_places
from training.confidence import intervals, reliability
from training.metrics import scores
from training.report.tables import (
    between,
    by_class,
    by_confidence,
    by_place,
    contingency_table,
    percent,
    share,
    table,
)

SUMMARY = ("where", "places", "pixels", "overall", "mean of places", "macro F1", "kappa", "ECE")
"""Columns of `summary_row`."""

METHOD = (
    "Overall: pixels of all places together, in brackets the bootstrap interval that the section "
    "names. Mean of places: every place weighs the same. Macro F1: mean over the classes that have "
    "labeled pixels. ECE: expected calibration error."
)


def one(found: Evaluation) -> str:
    """One evaluation as a Markdown page of its own."""
    lines = [
        f"# {found.name}",
        "",
        *table(SUMMARY, [summary_row(found.name, found)]),
        "",
        METHOD,
        "",
        *section(found),
    ]
    return "\n".join(lines) + "\n"


def section(found: Evaluation, graph: str = "") -> list[str]:
    """One evaluation in full; `graph` is the shipped model's, to say whether it was that one."""
    known, curve = intervals(found), reliability(found)
    return [
        found.description,
        "",
        *measured_by(found, graph),
        "",
        *by_class(found.table, known),
        "",
        f"Overall {percent(scores(found.table).overall)}{between(known.overall)}. "
        f"In brackets: {known.method}.",
        "",
        *by_place(found),
        "",
        *contingency_table(found.table),
        "",
        f"Reliability (expected calibration error {percent(curve.error)}):",
        "",
        *by_confidence(curve),
    ]


def measured_by(found: Measured, graph: str = "") -> list[str]:
    """Models and commands behind a result; says so when it is not the shipped model's."""
    models = {m.graph for m in found.models}
    names = ", ".join(dict.fromkeys(f"`{m.preset}` ({m.steps:,} steps)" for m in found.models))
    if models == {graph}:
        who = "the shipped model"
    elif len(models) == 1:
        who = f"one model, preset {names}"
    else:
        who = f"{len(models)} models (one a fold), preset {names}"
    seen = (
        f" It had chips of these places in training: {', '.join(found.trained_on)}."
        if found.trained_on
        else " No place here was trained on, in any year."
    )
    return [f"Measured on {who}.{seen}", "", *(f"    {c}" for c in found.commands)]


def summary_row(name: str, found: Evaluation) -> list[str]:
    """An evaluation in one line: its name and the figures of the columns SUMMARY."""
    s, known = scores(found.table), intervals(found)
    return [
        name,
        str(len(found.places)),
        f"{s.pixels.sum():,}",
        percent(s.overall) + between(known.overall),
        percent(mean_of_places(found)) + between(known.mean_of_places),
        share(s.macro_f1),
        share(s.kappa),
        percent(reliability(found).error),
    ]
