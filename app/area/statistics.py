"""Ground areas as a document: what is mapped, and what that means given how often the map errs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from app.area.accuracy import adjusted
from app.area.polygon import AreaOfInterest
from app.area.tally import AreaTotals
from app.errors import UnknownName
from app.landcover.blocks import Selection
from model.card import Assessment, ModelCard
from model.legend import NODATA

HECTARE = 1e4
ACRE = 4046.8564224
"""Square meters of an international acre."""

METHOD = "stratified estimator by mapped class, Olofsson et al. 2014, eq. 4, 9, 10, 11"
CAVEAT = (
    "Adjusted areas assume that the model errs here as it did where it was assessed, which is "
    "another place. The interval counts every labeled pixel as an independent sample; "
    "neighboring pixels are not, so that it is too narrow; how far `by_assessment` lies apart "
    "says more. Where it matters, label a random sample of your own."
)

COLUMNS = (
    "feature",
    "value",
    "name",
    "title",
    "m2",
    "hectares",
    "acres",
    "percent",
    "adjusted_hectares",
    "adjusted_low_hectares",
    "adjusted_high_hectares",
    "assessments_low_hectares",
    "assessments_high_hectares",
)


def assessment_of(card: ModelCard, name: str | None) -> Assessment | None:
    """The assessment of that name, the card's first for None; UnknownName. None: it has none."""
    known = {assessment.name: assessment for assessment in card.accuracy}
    if name is None:
        return next(iter(known.values()), None)
    if name not in known:
        raise UnknownName("assessment", name, known)
    return known[name]


def statistics(
    selection: Selection, area_m2: float, tally: AreaTotals, assessment: Assessment | None
) -> dict[str, Any]:
    """Areas per class (m², ha, acres, per cent of what has imagery), mapped and adjusted.

    `area_m2`: the polygon's area on the ellipsoid; mapped areas and what has no imagery add up to
    it within 0.01 %.
    """
    card = selection.session.card
    uncovered = float(tally.ground[NODATA])
    document: dict[str, Any] = {
        "area": measures(area_m2),
        "covered": measures(tally.covered),
        "uncovered": measures(uncovered),
        "sum": measures(tally.covered + uncovered),
        "classes": _classes(card, tally, assessment),
        "accuracy": _accuracy(assessment),
        **origin(selection, tally),
    }
    return document


def total_of(features: Sequence[tuple[AreaOfInterest, AreaTotals]]) -> tuple[float, AreaTotals]:
    """(m² of the polygons, their tallies together); ground that two of them share counts twice."""
    together = AreaTotals()
    for _, tally in features:
        together.merge(tally)
    return sum(area.square_meters for area, _ in features), together


def measures(square_meters: float) -> dict[str, float]:
    """An area in the units people use."""
    return {
        "m2": round(square_meters, 3),
        "hectares": round(square_meters / HECTARE, 6),
        "acres": round(square_meters / ACRE, 6),
    }


def when_of(selection: Selection) -> str:
    """The dates of a selection as a client names them: `latest`, a year, or an interval."""
    return selection.when.text


def origin(selection: Selection, tally: AreaTotals) -> dict[str, Any]:
    """What a result was made from."""
    dates = sorted({scene.date for scene in tally.scenes if scene.date})
    return {
        "source": selection.source.id,
        "model": {"name": selection.session.card.name, "sha256": selection.session.sha256},
        "scenes": sorted(scene.id for scene in tally.scenes),
        "dates": [dates[0], dates[-1]] if dates else [],
        "blocks": tally.blocks,
    }


def statistics_csv(documents: Iterable[tuple[object, dict[str, Any]]]) -> str:
    """One row per feature and class of (its name, its statistics); `uncovered` is a row too."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for feature, document in documents:
        for entry in document["classes"]:
            row = {name: entry[name] for name in COLUMNS[1:8]}
            change = entry.get("adjusted") or {}
            low, high = change.get("interval95_hectares") or ("", "")
            spread = change.get("by_assessment", {}).values()
            writer.writerow(
                {
                    "feature": feature,
                    **row,
                    "adjusted_hectares": change.get("hectares", ""),
                    "adjusted_low_hectares": low,
                    "adjusted_high_hectares": high,
                    "assessments_low_hectares": min(spread, default=""),
                    "assessments_high_hectares": max(spread, default=""),
                }
            )
        missing = {"value": NODATA, "name": "uncovered", "title": "No imagery"}
        writer.writerow({"feature": feature, **missing, **document["uncovered"]})
    return out.getvalue()


def _classes(
    card: ModelCard, tally: AreaTotals, assessment: Assessment | None
) -> list[dict[str, Any]]:
    mapped = [float(tally.ground[each.value]) for each in card.legend.classes]
    covered = tally.covered
    estimate = adjusted(mapped, assessment.contingency) if assessment else None
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
        "method": METHOD,
        "caveat": CAVEAT,
    }
