"""Ground areas as documents and tables: the area of each class, and how it changed.

Mapped areas come with what they mean given how often the model errs (app.area.accuracy).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from app.area.accuracy import adjusted
from app.area.totals import AreaTotals
from app.errors import UnknownName
from app.landcover.blocks import Selection
from app.render.transition import BASE, MISREGISTRATION
from model.card import Assessment, ModelCard
from model.legend import NODATA, Legend

HECTARE = 1e4
ACRE = 4046.8564224
"""Square meters of an international acre."""

METHOD = "stratified estimator by mapped class, Olofsson et al. 2014, eq. 4, 9, 10, 11"
BETWEEN = "; standard errors between places or scenes, Cochran 1977, section 6.3"
CAVEAT = (
    "Adjusted areas assume that the model errs here as it did where it was assessed, which is "
    "another place. The interval counts every labeled pixel as an independent sample; "
    "neighboring pixels are not, so the interval is too narrow; the spread of `by_assessment` "
    "says more. Where it matters, label a random sample of your own."
)

COLUMNS = (
    "feature", "value", "name", "title", "m2", "hectares", "acres", "percent",
    "adjusted_hectares", "adjusted_low_hectares", "adjusted_high_hectares",
    "assessments_low_hectares", "assessments_high_hectares",
)  # fmt: skip


def assessment_of(card: ModelCard, name: str | None) -> Assessment | None:
    """Return the assessment of that name, the card's first for None; None when the card has none.
    UnknownName for any other name."""
    known = {assessment.name: assessment for assessment in card.accuracy}
    if name is None:
        return next(iter(known.values()), None)
    if name not in known:
        raise UnknownName("assessment", name, known)
    return known[name]


def statistics_document(
    selection: Selection, area_m2: float, totals: AreaTotals, assessment: Assessment | None
) -> dict[str, Any]:
    """Return the areas per class (m², ha, acres, percent of what has imagery), mapped and adjusted.

    `area_m2`: the polygon's area on the ellipsoid; mapped areas and what has no imagery add up to
    it within 0.01 %.
    """
    return {
        "area": measures(area_m2),
        "covered": measures(totals.covered),
        "uncovered": measures(totals.uncovered),
        "sum": measures(totals.covered + totals.uncovered),
        "classes": _classes(selection.session.card, totals, assessment),
        "accuracy": _accuracy(assessment),
        **origin(selection, totals),
    }


def change_document(
    before: Selection, after: Selection, area_m2: float, totals: AreaTotals
) -> dict[str, Any]:
    """Return the matrix in hectares, row = class before, column = class after, and its sums."""
    legend = after.session.card.legend
    matrix = _matrix(legend, totals)
    classes = []
    for index, each in enumerate(legend.classes):
        first, second = float(matrix[index].sum()), float(matrix[:, index].sum())
        stayed = float(matrix[index, index])
        areas = {
            "before": first,
            "after": second,
            "gained": second - stayed,
            "lost": first - stayed,
        }
        hectares = {f"{name}_hectares": round(area / HECTARE, 6) for name, area in areas.items()}
        classes.append({"value": each.value, "name": each.name, "title": each.title, **hectares})
    return {
        "from": before.when.text,
        "to": after.when.text,
        "area": measures(area_m2),
        "compared": measures(totals.covered),
        "uncovered": measures(totals.uncovered),
        "changed": measures(float(matrix.sum() - np.trace(matrix))),
        "unchanged": measures(float(np.trace(matrix))),
        "classes": classes,
        "matrix_hectares": [[round(cell / HECTARE, 6) for cell in row] for row in matrix.tolist()],
        "limits": [MISREGISTRATION],
        **origin(after, totals),
    }


def measures(square_meters: float) -> dict[str, float]:
    """Return an area in the units people use."""
    return {
        "m2": round(square_meters, 3),
        "hectares": round(square_meters / HECTARE, 6),
        "acres": round(square_meters / ACRE, 6),
    }


def origin(selection: Selection, totals: AreaTotals) -> dict[str, Any]:
    """Return the source, model, scenes and dates of a result."""
    dates = sorted({scene.date for scene in totals.scenes if scene.date})
    return {
        "source": selection.source.id,
        "model": {"name": selection.session.card.name, "sha256": selection.session.sha256},
        "scenes": sorted(scene.id for scene in totals.scenes),
        "dates": [dates[0], dates[-1]] if dates else [],
        "blocks": totals.blocks,
    }


def statistics_csv(documents: Iterable[tuple[object, dict[str, Any]]]) -> str:
    """Return one row per feature and class of (its name, its statistics); `uncovered` is a row
    too."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for feature, document in documents:
        for entry in document["classes"]:
            row = {name: entry[name] for name in COLUMNS[1:8]}
            estimate = entry.get("adjusted") or {}
            low, high = estimate.get("interval95_hectares") or ("", "")
            spread = estimate.get("by_assessment", {}).values()
            writer.writerow(
                {
                    "feature": feature,
                    **row,
                    "adjusted_hectares": estimate.get("hectares", ""),
                    "adjusted_low_hectares": low,
                    "adjusted_high_hectares": high,
                    "assessments_low_hectares": min(spread, default=""),
                    "assessments_high_hectares": max(spread, default=""),
                }
            )
        missing = {"value": NODATA, "name": "uncovered", "title": "No imagery"}
        writer.writerow({"feature": feature, **missing, **document["uncovered"]})
    return out.getvalue()


def change_csv(document: dict[str, Any]) -> str:
    """Return the matrix in hectares with the names of the classes, row = before, column = after."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    names = [each["name"] for each in document["classes"]]
    writer.writerow([f"{document['from']} \\ {document['to']}", *names])
    for name, row in zip(names, document["matrix_hectares"], strict=True):
        writer.writerow([name, *row])
    return out.getvalue()


def _matrix(legend: Legend, totals: AreaTotals) -> npt.NDArray[np.float64]:
    values = np.array(legend.values)
    matrix: npt.NDArray[np.float64] = totals.square_meters[values[:, None] * BASE + values[None, :]]
    return matrix


def _classes(
    card: ModelCard, totals: AreaTotals, assessment: Assessment | None
) -> list[dict[str, Any]]:
    mapped = [float(totals.square_meters[each.value]) for each in card.legend.classes]
    covered = totals.covered
    estimate = None
    if assessment:
        clusters = tuple(assessment.clusters.values())
        estimate = adjusted(mapped, assessment.contingency, clusters)
    others = {
        each.name: adjusted(mapped, each.contingency).area for each in card.accuracy if assessment
    }
    entries = []
    for index, (each, square_meters) in enumerate(zip(card.legend.classes, mapped, strict=True)):
        entry: dict[str, Any] = {
            "value": each.value,
            "name": each.name,
            "title": each.title,
            **measures(square_meters),
            "percent": round(100 * square_meters / covered, 4) if covered else 0.0,
        }
        if estimate is not None:
            interval = estimate.interval(index)
            entry["adjusted"] = {
                "hectares": round(float(estimate.area[index]) / HECTARE, 6),
                "interval95_hectares": interval and [round(v / HECTARE, 6) for v in interval],
                "assessed": index not in estimate.unassessed,
                "by_assessment": {
                    name: round(float(area[index]) / HECTARE, 6) for name, area in others.items()
                },
            }
        entries.append(entry)
    return entries


def _accuracy(assessment: Assessment | None) -> dict[str, Any] | None:
    if assessment is None:
        return None
    return {
        "assessment": assessment.name,
        "description": assessment.description,
        "pixels": assessment.pixels,
        "overall_accuracy": round(assessment.overall_accuracy, 4),
        "method": METHOD + (BETWEEN if len(assessment.clusters) > 1 else ""),
        "clusters": len(assessment.clusters),
        "caveat": CAVEAT,
    }
