"""`docs/accuracy.md` and the accuracy paragraph of the README, from the results that are kept."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.card import ModelCard
from training.errors import AssessmentError
from training.evaluate.confidence import intervals
from training.evaluate.lowres import LowRes
from training.evaluate.metrics import scores
from training.evaluate.results import Evaluation, Measured, Role, pooled
from training.evaluate.years import Years
from training.report.diagrams import class_diagram
from training.report.evaluation import SUMMARY, section, source, summary_row
from training.report.render import render
from training.report.tables import (
    NAMES,
    Table,
    between_years,
    by_label_year,
    by_resolution,
    by_year,
    classes_by_resolution,
    percent,
)

ARTICLE = {
    "buildings": (0.8650, 0.8528),
    "roads": (0.8534, 0.8415),
    "water": (0.9078, 0.8988),
    "bare": (0.9333, 0.9457),
    "forest": (0.9512, 0.9434),
    "planted": (0.9288, 0.9305),
}
"""Precision and recall in Table 1 of the article, measured on one NAIP image of the region that
its model was trained on."""

TITLES: dict[Role, str] = {
    "unseen": "Unseen places",
    "region": "Same region, unseen ground",
    "county": "Demo County",
    "own": "Own labels",
}

SENTENCES: dict[Role, str] = {
    "unseen": "in places that the model was not trained on ({where}; {pixels} pixels)",
    "region": "on held-out ground of places that it was trained on ({pixels} pixels)",
    "county": "on held-out ground of the synthetic Demo County ({pixels} pixels)",
    "own": "on own labels ({pixels} pixels)",
}

THREE_YEARS = ("2016", "2018", "2020")
"""Years that most sites have imagery of."""

MARKS = ("<!-- accuracy: written by make docs -->", "<!-- end of accuracy -->")
"""Lines of a page between which the accuracy paragraph stands."""


@dataclass
class Page:
    """What docs/accuracy.md shows of a model. `graph`: digest of its network."""

    card: ModelCard
    graph: str
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    """By the title of their section."""
    years: Years | None = None
    lowres: LowRes | None = None
    fast: dict[str, Evaluation] = field(default_factory=dict)
    """Of the model `fast`, by their titles."""

    def markdown(self, diagram: str = "accuracy.svg") -> str:
        """Return the page; `diagram` is the path of `class_diagram` from it."""
        parts = [(title, section(e, self.graph)) for title, e in self.evaluations.items()]
        summary = [summary_row(title, e) for title, e in self.evaluations.items()]
        compared = {t: e for t, e in self.evaluations.items() if e.role in ("region", "unseen")}
        context: dict[str, Any] = {
            "card": self.card,
            "sentence": self.sentence(),
            "diagram": diagram,
            "summary": Table(SUMMARY, summary) if summary else None,
            "sections": parts,
            "article": self._beside_article(compared) if compared else None,
            "years": self._years(),
            "lowres": self._lowres(),
            "fast": self._fast(),
        }
        titles = ["Summary", *(title for title, _ in parts)]
        titles += ["Compared with the article"] if compared else []
        titles += ["The same place in several years"] if self.years else []
        titles += ["Coarser imagery"] if self.lowres else []
        titles += ["The model fast"] if self.fast else []
        return render("accuracy.md", context | {"titles": titles})

    def sentence(self) -> str:
        """Return the accuracy in one paragraph of plain words."""
        figures = []
        for e in self.evaluations.values():
            s = scores(e.table)
            where = ", ".join(map(_titled, e.places))
            what = SENTENCES[e.role].format(where=where, pixels=f"{s.pixels.sum():,}")
            figures.append(f"**{percent(s.overall)}** {what}")
        if not figures:
            return "Nothing has been measured yet."
        text = f"Labeled pixels that are classified correctly: {'; '.join(figures)}."
        if any({m.graph for m in e.models} != {self.graph} for e in self.evaluations.values()):
            text += (
                " Real places were tested with earlier stages of the shipped model, or with "
                "models trained like it, without the tested ground; the shipped model is trained "
                "on all of it."
            )
        return textwrap.fill(text, 100, break_on_hyphens=False)

    def diagram(self) -> str:
        """Return F1 by class of every evaluation as SVG."""
        series = [
            (title, scores(e.table).f1.tolist(), intervals(e).f1)
            for title, e in self.evaluations.items()
        ]
        return class_diagram("F1 by class and test", series) + "\n"

    def _beside_article(self, compared: Mapping[str, Evaluation]) -> Table:
        head = ["class", "article: precision, recall"]
        head += [f"{_lowered(title)}: precision, recall, pixels" for title in compared]
        every = [scores(e.table) for e in compared.values()]
        rows = [
            [
                name,
                ", ".join(map(percent, ARTICLE[name])),
                *(
                    f"{percent(s.precision[i])}, {percent(s.recall[i])}, {s.pixels[i]:,}"
                    for s in every
                ),
            ]
            for i, name in enumerate(NAMES)
        ]
        return Table(head, rows)

    def _years(self) -> dict[str, Any] | None:
        years = self.years
        if years is None:
            return None
        three = bool(years.in_all_of(THREE_YEARS))
        held = years.where_labels_hold
        return {
            "description": years.description,
            "source": source(years, self.graph),
            "commands": years.commands,
            "holding": by_year(held, THREE_YEARS) if three else None,
            "agreement": between_years(held, THREE_YEARS) if three else None,
            "all": by_year(years, THREE_YEARS) if three else None,
            "by_label_year": by_label_year(years),
        }

    def _lowres(self) -> dict[str, Any] | None:
        if self.lowres is None:
            return None
        return {
            "resolution": f"{self.lowres.ground_resolution:g}",
            "scenes": len(self.lowres.scenes),
            "source": source(self.lowres, self.graph),
            "commands": self.lowres.commands,
            "by_resolution": by_resolution(self.lowres),
            "classes": classes_by_resolution(self.lowres),
        }

    def _fast(self) -> dict[str, Any] | None:
        """Return the figures of the model `fast`, each beside the other's on the same places."""
        if not self.fast:
            return None
        rows = []
        for title, each in self.fast.items():
            beside = [e for e in self.evaluations.values() if _is_alike(e, each)]
            rows += [summary_row(f"{title}, landcover", e) for e in beside]
            rows.append(summary_row(f"{title}, fast", each))
        commands = [command for each in self.fast.values() for command in each.commands]
        return {"summary": Table(SUMMARY, rows), "commands": commands}


def collect(
    card: ModelCard, graph: str, results: Sequence[Measured], fast: Sequence[Measured] = ()
) -> Page:
    """Return the page of a model: evaluations of one role and preset are pooled (the folds of a
    cross-validation), and so are years and low resolutions. Models of other presets have sections
    of their own: what they show is not of one kind. `fast`: results of the model of that name.

    Raises AssessmentError when a scene comes twice, or one result is of several presets.
    """
    page = Page(card, graph)
    for role, title in TITLES.items():
        mine = [r for r in results if isinstance(r, Evaluation) and r.role == role]
        presets = sorted({_preset_of(e) for e in mine})
        for preset in presets:
            own = title if len(presets) == 1 else f"{title}, preset {preset}"
            page.evaluations[own] = pooled([e for e in mine if _preset_of(e) == preset])
    if years := [r for r in results if isinstance(r, Years)]:
        page.years = pooled(years)
    if lowres := [r for r in results if isinstance(r, LowRes)]:
        page.lowres = pooled(lowres)
    if fast:
        page.fast = collect(card, graph, fast).evaluations
    return page


def _is_alike(one: Evaluation, other: Evaluation) -> bool:
    """Return whether two were made in the same places of the same kind."""
    return one.role == other.role and set(one.places) == set(other.places)


def _preset_of(result: Evaluation) -> str:
    presets = sorted({m.preset for m in result.models})
    if len(presets) > 1:
        raise AssessmentError(f"{result.name}: one result of different presets: {presets}")
    return presets[0]


def _titled(place: str) -> str:
    """Return a place's name for a sentence: `us_suburb` is "US Suburb"."""
    return " ".join(w.upper() if len(w) == 2 else w.title() for w in place.split("_"))


def _lowered(title: str) -> str:
    return title[:1].lower() + title[1:]


def with_paragraph(text: str, paragraph: str) -> str:
    """Return a page with `paragraph` between its MARKS; AssessmentError when it has none."""
    head, start, rest = text.partition(MARKS[0])
    _, end, tail = rest.partition(MARKS[1])
    if not (start and end):
        raise AssessmentError(f"the page has no lines {MARKS[0]} and {MARKS[1]}")
    return f"{head}{start}\n{paragraph}\n{end}{tail}"


def write_docs(page: Page, out: Path, readme: Path | None = None) -> None:
    """Write the page and its diagram beside it, and the paragraph of the README."""
    out.write_text(page.markdown(out.with_suffix(".svg").name), encoding="utf-8")
    out.with_suffix(".svg").write_text(page.diagram(), encoding="utf-8")
    if readme is not None:
        text = readme.read_text(encoding="utf-8")
        readme.write_text(with_paragraph(text, page.sentence()), encoding="utf-8")
