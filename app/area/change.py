"""What became of what: hectares by class before and after, between two years of one area."""

from __future__ import annotations

import csv
import io
from contextlib import aclosing
from typing import Any

import numpy as np

from app.area.plan import Plan
from app.area.statistics import HECTARE, measures, origin, when_of
from app.area.tally import AreaTotals, Progress, silent, walk
from app.landcover.blocks import LandCover, Selection
from app.render.transition import BASE, MISREGISTRATION, codes, transition_table
from model.legend import NODATA, Legend


async def count_change(
    landcover: LandCover,
    before: Selection,
    after: Selection,
    plan: Plan,
    progress: Progress = silent,
) -> AreaTotals:
    """Ground area of every transition (from · 10 + to) in an area; 255: a year without imagery."""
    transition_table(after.session.card.legend)  # refuses what does not fit
    tally = AreaTotals()
    async with aclosing(walk(landcover, [before, after], plan, progress)) as blocks:
        async for seen in blocks:
            first, second = seen.shown
            values = codes(first.values, second.values)
            await landcover.reads.run(tally.add, seen.part, values, seen.shares)
            tally.scenes |= dict.fromkeys([*first.scenes, *second.scenes])
    tally.ground[NODATA] += plan.beyond
    return tally


def change_statistics(
    before: Selection, after: Selection, area_m2: float, tally: AreaTotals
) -> dict[str, Any]:
    """The matrix in hectares, row = class before, column = class after, and its sums."""
    legend = after.session.card.legend
    matrix = _matrix(legend, tally)
    uncovered = float(tally.ground[NODATA])
    classes = []
    for index, each in enumerate(legend.classes):
        first, second = float(matrix[index].sum()), float(matrix[:, index].sum())
        stayed = float(matrix[index, index])
        parts = {
            "before": first,
            "after": second,
            "gained": second - stayed,
            "lost": first - stayed,
        }
        hectares = {f"{name}_hectares": round(area / HECTARE, 6) for name, area in parts.items()}
        classes.append({"value": each.value, "name": each.name, "title": each.title, **hectares})
    return {
        "from": when_of(before),
        "to": when_of(after),
        "area": measures(area_m2),
        "compared": measures(tally.covered),
        "uncovered": measures(uncovered),
        "changed": measures(float(matrix.sum() - np.trace(matrix))),
        "unchanged": measures(float(np.trace(matrix))),
        "classes": classes,
        "matrix_hectares": [[round(cell / HECTARE, 6) for cell in row] for row in matrix.tolist()],
        "limits": [MISREGISTRATION],
        **origin(after, tally),
    }


def change_csv(document: dict[str, Any]) -> str:
    """The matrix in hectares with the names of the classes, row = before, column = after."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    names = [each["name"] for each in document["classes"]]
    writer.writerow([f"{document['from']} \\ {document['to']}", *names])
    for name, row in zip(names, document["matrix_hectares"], strict=True):
        writer.writerow([name, *row])
    return out.getvalue()


def _matrix(legend: Legend, tally: AreaTotals) -> np.ndarray[Any, np.dtype[np.float64]]:
    values = np.array(legend.values)
    return np.asarray(tally.ground[values[:, None] * BASE + values[None, :]], dtype=np.float64)
