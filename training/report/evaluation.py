"""One evaluation: its context, and the files made from it (JSON, Markdown, HTML with pictures)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from training.evaluate.confidence import intervals, reliability
from training.evaluate.metrics import scores
from training.evaluate.results import Evaluation, Measured, SceneResult, mean_of_places
from training.report.diagrams import reliability_diagram
from training.report.pictures import RIGHT, WRONG, ScenePreviews
from training.report.render import render
from training.report.tables import (
    NAMES,
    Table,
    between,
    between_shares,
    by_class,
    by_confidence,
    by_place,
    contingency_table,
    names_of,
    percent,
    share,
)

SUMMARY = ("where", "places", "pixels", "overall", "mean of places", "macro F1", "kappa", "ECE")
"""Columns of `summary_row`."""


def write(
    result: Evaluation, previews: ScenePreviews, folder: Path, name: str, pictures: int
) -> None:
    """Write `<name>.json`, `.md` and `.html` into `folder`; the HTML page shows at most `pictures`
    scenes, the least accurate first. Raises OSError when that fails.
    """
    result.write(folder / f"{name}.json")
    (folder / f"{name}.md").write_text(markdown(result), encoding="utf-8")
    (folder / f"{name}.html").write_text(html(result, previews, pictures), encoding="utf-8")


def markdown(result: Evaluation) -> str:
    """Return one evaluation as a Markdown page."""
    summary = Table(SUMMARY, [summary_row(result.name, result)])
    return render("evaluation.md", {"summary": summary, **section(result)})


def html(result: Evaluation, previews: ScenePreviews, shown: int = 24) -> str:
    """Return one evaluation as a self-contained HTML page: no script, no other file; the `shown`
    scenes of lowest overall accuracy with their pictures.
    """
    s, known, curve = scores(result.table), intervals(result), reliability(result)
    ranked = worst_first(result.scenes)
    context = (
        section(result)
        | {
            "tiles": [
                (percent(s.overall), "overall accuracy" + between(known.overall)),
                (percent(mean_of_places(result)), "mean of places" + between(known.mean_of_places)),
                (share(s.macro_f1), "macro F1" + between_shares(known.macro_f1)),
                (share(s.kappa), "kappa" + between_shares(known.kappa)),
                (percent(curve.error), "calibration error (ECE)"),
                (f"{s.pixels.sum():,}", f"labeled pixels, {len(result.scenes)} scenes"),
            ],
            "legend": result.legend.classes,
            "key": [(c.color_hint, c.title) for c in result.legend.classes]
            + [("FFFFFF", "unlabeled"), (RIGHT, "right"), (WRONG, "wrong")],
            "shares": result.table / np.maximum(1, result.table.sum(axis=1, keepdims=True)),
            "diagram": Markup(reliability_diagram(curve)),  # noqa: S704 (made of numbers only)
            "shown": [
                (
                    r,
                    percent(_overall(r)),
                    commonest_error(r, names_of(result.legend)),
                    previews.figures(r.place, r.name),
                )
                for r in ranked[:shown]
            ],
            "scenes": Table(
                ["scene", "place", "year", "pixels", "overall"],
                [
                    [r.name, r.place, r.year or "–", f"{sum(r.confidence):,}", percent(_overall(r))]
                    for r in ranked
                ],
            ),
        }
    )
    return render("evaluation.html", context)


def section(result: Evaluation, graph: str = "") -> dict[str, Any]:
    """Return the context that both pages share. `graph`: digest of the shipped model, so that the
    page can say whether that one was evaluated.
    """
    known, curve = intervals(result), reliability(result)
    return {
        "name": result.name,
        "description": result.description,
        "source": source(result, graph),
        "commands": result.commands,
        "classes": by_class(result.table, known, names_of(result.legend)),
        "overall": percent(scores(result.table).overall) + between(known.overall),
        "method": known.method,
        "places": by_place(result),
        "contingency": contingency_table(result.table, names_of(result.legend)),
        "calibration_error": percent(curve.error),
        "bins": by_confidence(curve),
    }


def source(result: Measured, graph: str = "") -> str:
    """Return a sentence on the models behind a result and what they were trained on."""
    models = {m.graph for m in result.models}
    names = ", ".join(dict.fromkeys(f"`{m.preset}` ({m.steps:,} steps)" for m in result.models))
    if models == {graph}:
        who = "the shipped model"
    elif len(models) == 1:
        who = f"one model, preset {names}"
    else:
        who = f"{len(models)} models (one per fold), preset {names}"
    if not result.trained_on:
        seen = "None of these places was in its training data, in any year."
    else:
        part = "" if models == {graph} else " other ground of"
        seen = f"Its training data includes{part}: {', '.join(result.trained_on)}."
    return f"Measured on {who}. {seen}"


def summary_row(name: str, result: Evaluation) -> list[str]:
    """Return an evaluation as one row: its name and the figures of the columns SUMMARY."""
    s, known = scores(result.table), intervals(result)
    return [
        name,
        str(len(result.places)),
        f"{s.pixels.sum():,}",
        percent(s.overall) + between(known.overall),
        percent(mean_of_places(result)) + between(known.mean_of_places),
        share(s.macro_f1),
        share(s.kappa),
        percent(reliability(result).error),
    ]


def worst_first(scenes: Iterable[SceneResult]) -> list[SceneResult]:
    """Return scenes by overall accuracy, then name; those without a labeled pixel last."""
    return sorted(scenes, key=lambda s: (np.nan_to_num(_overall(s), nan=2.0), s.place, s.name))


def commonest_error(result: SceneResult, names: Sequence[str] = NAMES) -> str:
    """Return the most frequent confusion of a scene in words; empty when there is none."""
    wrong = result.table
    np.fill_diagonal(wrong, 0)
    if not wrong.any():
        return ""
    i, j = map(int, np.unravel_index(int(wrong.argmax()), wrong.shape))
    return f"; most often {names[i]} classified as {names[j]} ({wrong[i, j]:,})"


def _overall(result: SceneResult) -> float:
    return scores(result.table).overall
