"""`docs/accuracy.md` from what was measured: every figure with its pixels and its command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from model.card import ModelCard
from training.assessment import Evaluation, Measured, Role, pooled
from training.errors import AssessmentError
from training.lowres import LowRes, pooled_lowres
from training.metrics import scores
from training.report.goals import THREE_YEARS, Goal, goals
from training.report.section import METHOD, SUMMARY, measured_by, section, summary_row
from training.report.tables import (
    NAMES,
    between_years,
    by_resolution,
    by_year,
    classes_by_resolution,
    own_year,
    percent,
    table,
)
from training.years import Years, pooled_years

ARTICLE = {
    "buildings": (0.8650, 0.8528),
    "roads": (0.8534, 0.8415),
    "water": (0.9078, 0.8988),
    "bare": (0.9333, 0.9457),
    "forest": (0.9512, 0.9434),
    "planted": (0.9288, 0.9305),
}
"""Precision and recall of the article's Table 1, measured on one NAIP image of its own region;
overall "around 85 %"."""

ARTICLE_PRESET = "article"

TITLES: dict[Role, str] = {
    "unseen": "Unseen places",
    "region": "Same region, unseen ground",
    "county": "Demo County",
    "own": "Own labels",
}


@dataclass
class Page:
    """What the page tells of. Evaluations by role; those of the preset `article` apart."""

    card: ModelCard
    graph: str
    evaluations: dict[Role, Evaluation] = field(default_factory=dict)
    article: dict[Role, Evaluation] = field(default_factory=dict)
    years: Years | None = None
    lowres: LowRes | None = None

    def markdown(self) -> str:
        """The page."""
        lines = [*self._head(), *self._summary(), *self._goals()]
        for role, title in TITLES.items():
            if role in self.evaluations:
                lines += ["", f"## {title}", "", *section(self.evaluations[role], self.graph)]
        if "region" in self.evaluations or self.article:
            lines += ["", "## Beside the article", "", *self._beside()]
        if self.years is not None:
            lines += ["", "## The same place in three years", "", *self._years(self.years)]
        if self.lowres is not None:
            lines += ["", "## Coarser imagery", "", *self._lowres(self.lowres)]
        return "\n".join(lines) + "\n"

    def goals(self) -> list[Goal]:
        """What was asked for, as far as it was measured."""
        return goals(self.evaluations, self.years, self.lowres)

    def _head(self) -> list[str]:
        t = self.card.training
        pixels = ", ".join(f"{name} {count:,}" for name, count in t.pixels.items())
        return [
            "# Accuracy",
            "",
            "Written by `python -m training accuracy`; do not edit. Every figure comes from the",
            "exported file run through `model.segment`, the code that serves, on whole scenes; the",
            "command that measured it stands in its section. Rows of the tables are the reference,",
            "columns the prediction, in pixels of the labels.",
            "",
            f"The shipped model: sha256 `{self.card.sha256}`, preset `{t.preset}`, seed {t.seed}, "
            f"{t.steps:,} steps, on {', '.join(t.places) or 'nothing named'}. "
            f"Labeled pixels: {pixels or 'none named'}.",
        ]

    def _summary(self) -> list[str]:
        rows = []
        for role, title in TITLES.items():
            for which, name in ((self.evaluations, title), (self.article, f"{title}, `article`")):
                if role in which:
                    rows.append(summary_row(name, which[role]))
        return ["", *table(SUMMARY, rows), "", METHOD] if rows else []

    def _goals(self) -> list[str]:
        if not (asked := self.goals()):
            return []
        rows = [[g.what, g.goal, g.found, "yes" if g.met else "**no**"] for g in asked]
        return ["", "## Goals", "", *table(["what", "goal", "found", "met"], rows, texts=4)]

    def _beside(self) -> list[str]:
        lines = [
            "The article's Table 1 was measured on one image of the region it was trained on "
            "(overall around 85 %); its labels and imagery are not to be had, so the columns are "
            "no measurement of the same ground. The preset `article` follows its recipe on our "
            "data.",
            "",
        ]
        columns: list[tuple[str, Evaluation | None]] = [("article, Table 1", None)]
        columns += [
            (f"ours, {TITLES[r].lower()}", e) for r, e in self.evaluations.items() if r in _COMPARED
        ]
        columns += [(f"`article`, {TITLES[r].lower()}", e) for r, e in self.article.items()]
        head = ["class", *(f"{title}: precision, recall, pixels" for title, _ in columns)]
        rows = []
        for i, name in enumerate(NAMES):
            cells = [name]
            for _, found in columns:
                if found is None:
                    precision, recall = ARTICLE[name]
                    cells.append(f"{percent(precision)}, {percent(recall)}, not stated")
                    continue
                s = scores(found.table)
                cells.append(f"{percent(s.precision[i])}, {percent(s.recall[i])}, {s.pixels[i]:,}")
            rows.append(cells)
        lines += table(head, rows)
        for found in self.article.values():
            lines += ["", *self._measured_by(found)]
        return lines

    def _years(self, years: Years) -> list[str]:
        lines = [
            "Each ground has one label, drawn for one of its years; what was built or felled in "
            "another counts as wrong. A label holds in another year unless the imagery says "
            "otherwise, whatever the model says: bare ground that turned green, planted ground "
            "that dried out (`training/other_years.py`).",
            *(["", years.description] if years.description else []),
            "",
            *self._measured_by(years),
        ]
        if years.in_all_of(THREE_YEARS):
            lines += [
                "",
                "The same labeled pixels in every year, where the label holds in all of them:",
                "",
                *by_year(years.where_labels_hold, THREE_YEARS),
                "",
                "Agreement between years on them:",
                "",
                *between_years(years.where_labels_hold, THREE_YEARS),
                "",
                "All labeled pixels, also where the label does not hold:",
                "",
                *by_year(years, THREE_YEARS),
            ]
        return [*lines, "", "By the year that the label was drawn for:", "", *own_year(years)]

    def _lowres(self, found: LowRes) -> list[str]:
        return [
            "Imagery averaged to coarser pixels and given to the same network as it is, against "
            f"the mode of its own classes at {found.ground_resolution:g} m, and against the "
            f"labels; {len(found.scenes)} scenes. Most are 154 m wide: at 4 m the network sees 38 "
            "pixels and mirrored ground beyond them.",
            "",
            *self._measured_by(found),
            "",
            *by_resolution(found),
            "",
            *classes_by_resolution(found),
        ]

    def _measured_by(self, found: Measured) -> list[str]:
        return measured_by(found, self.graph)


_COMPARED = ("region", "unseen")


def collect(card: ModelCard, graph: str, found: Sequence[Measured]) -> Page:
    """The page of a model: evaluations of one role are pooled (the folds of a cross-validation),
    those of the preset `article` apart, and so are years and low resolutions.

    Raises AssessmentError when folds of different presets would be mixed, or a scene comes twice.
    """
    page = Page(card, graph)
    evaluations = [f for f in found if isinstance(f, Evaluation)]
    for role, title in TITLES.items():
        mine = [e for e in evaluations if e.role == role]
        article = [e for e in mine if _preset(e) == ARTICLE_PRESET]
        ours = [e for e in mine if _preset(e) != ARTICLE_PRESET]
        if len(presets := sorted({_preset(e) for e in ours})) > 1:
            raise AssessmentError(f"{title}: results of different presets: {presets}")
        if ours:
            page.evaluations[role] = pooled(ours)
        if article:
            page.article[role] = pooled(article)
    if years := [f for f in found if isinstance(f, Years)]:
        page.years = pooled_years(years)
    if lowres := [f for f in found if isinstance(f, LowRes)]:
        page.lowres = pooled_lowres(lowres)
    return page


def _preset(found: Evaluation) -> str:
    return ", ".join(sorted({m.preset for m in found.models}))
