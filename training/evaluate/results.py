"""Results of evaluations, scene by scene: kept as JSON, pooled over folds, summarized by place.

Everything else (figures, intervals, pages) is computed from the scenes' contingency tables, so that
folds, places and years can be pooled without running a model again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from pydantic import Field, ValidationError, model_validator

from model.card import Assessment
from model.legend import LEGEND
from training.config.base import StrictModel
from training.config.legend import OwnLegend
from training.errors import AssessmentError
from training.evaluate.metrics import Counts, scores

CLASSES = len(LEGEND.classes)

MIN_PLACES = 3
"""With fewer places, pieces of ground are the clusters: two places have no spread."""

PER_CENT = 101
"""Confidence has whole percent, 0..100, as in the server."""

Role = Literal["unseen", "region", "county", "own"]
"""The kind of evidence: places never trained on; other ground of the same places; Demo County; a
user's own labels."""

Count = Annotated[int, Field(ge=0)]
Table = tuple[tuple[Count, ...], ...]
Histogram = Annotated[tuple[Count, ...], Field(min_length=PER_CENT, max_length=PER_CENT)]


class ModelFacts(StrictModel):
    """The model of a result. `graph` is the digest of the network alone, without metadata."""

    name: str
    preset: str
    steps: int
    graph: str
    places: tuple[str, ...] = Field(description="places it was trained on")


class SceneResult(StrictModel):
    """One scene: pixels by reference and prediction, and by confidence.

    `confidence[c]`: labeled pixels predicted with c percent; `right[c]`: those that were right.
    Scenes of the same `ground` show it at several dates and are not independent.
    """

    name: str
    place: str
    year: str
    ground: str
    contingency: Table
    confidence: Histogram
    right: Histogram

    @model_validator(mode="after")
    def _sums_agree(self) -> Self:
        if {len(r) for r in self.contingency} != {len(self.contingency)}:
            raise ValueError("the contingency table must be square")
        pixels, hits = int(self.table.sum()), int(np.trace(self.table))
        if sum(self.confidence) != pixels or sum(self.right) != hits:
            raise ValueError(
                f"{sum(self.confidence)} and {sum(self.right)} pixels by confidence, "
                f"{pixels} and {hits} in the table"
            )
        if any(right > n for right, n in zip(self.right, self.confidence, strict=True)):
            raise ValueError("more pixels are right at a confidence than there are")
        return self

    @property
    def table(self) -> Counts:
        """Return the contingency table, int64 (classes, classes)."""
        return np.array(self.contingency, np.int64)


class Measured(StrictModel):
    """A result of a model, or of the models of several folds, kept as JSON."""

    parts: ClassVar[tuple[str, ...]] = ("scenes",)
    """Fields of what was measured, each part with a place and a name."""

    description: str = Field(default="", description="what was measured on, in words")
    commands: tuple[str, ...] = Field(description="what measured it")
    models: tuple[ModelFacts, ...]
    legend: OwnLegend = LEGEND
    trained_on: tuple[str, ...] = Field(
        default=(), description="places measured on that their model was trained on"
    )

    def write(self, path: Path) -> None:
        """Write the JSON that `read` reads."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json() + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote. AssessmentError names the file and the problem."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise AssessmentError(f"{path}: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "file"
            raise AssessmentError(f"{path}: {where}: {first['msg']}") from error


class Evaluation(Measured):
    """A model, or the models of several folds, on labeled scenes."""

    kind: Literal["evaluation"] = "evaluation"
    name: str
    role: Role
    description: str
    scenes: Annotated[tuple[SceneResult, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _tables_are_of_the_legend(self) -> Self:
        count = len(self.legend.classes)
        for scene in self.scenes:
            if len(scene.contingency) != count:
                raise ValueError(f"the contingency table of {scene.name} must be {count} x {count}")
        return self

    @property
    def table(self) -> Counts:
        """Return the pixels of all scenes, int64 (classes, classes): reference by prediction."""
        return table_of(self.scenes)

    @property
    def places(self) -> dict[str, tuple[SceneResult, ...]]:
        """Return scenes by place, sorted."""
        names = sorted({s.place for s in self.scenes})
        return {name: tuple(s for s in self.scenes if s.place == name) for name in names}

    def assessment(self) -> Assessment:
        """Return the entry of a model card."""
        _, clusters = self.clusters()
        return Assessment(
            name=self.name,
            description=self.description,
            contingency=rows_of(self.table),
            clusters={name: rows_of(table) for name, table in clusters.items()},
        )

    def clusters(self) -> tuple[str, dict[str, Counts]]:
        """Return what the scenes are clusters of, and the table of each: places, where there are at
        least MIN_PLACES of them, otherwise pieces of ground."""
        places = self.places
        if len(places) >= MIN_PLACES:
            return "place", {name: table_of(scenes) for name, scenes in places.items()}
        grounds = sorted({(s.place, s.ground) for s in self.scenes})
        return "piece of ground", {
            f"{place} {ground}": table_of(
                s for s in self.scenes if (s.place, s.ground) == (place, ground)
            )
            for place, ground in grounds
        }


def table_of(scenes: Iterable[SceneResult]) -> Counts:
    """Return the sum of the scenes' tables, int64 (classes, classes)."""
    return sum_of(s.contingency for s in scenes)


def mean_of_places(evaluation: Evaluation) -> float:
    """Return the mean of the places' overall accuracies, every place weighted equally; nan when no
    place has a labeled pixel.
    """
    each = [scores(table_of(scenes)).overall for scenes in evaluation.places.values()]
    known = [share for share in each if not np.isnan(share)]
    return float(np.mean(known)) if known else float("nan")


Result = TypeVar("Result", bound=Measured)


def pooled(folds: Sequence[Result]) -> Result:
    """Return the folds of a cross-validation as one result: every scene once, by the model that was
    not trained on it.

    Raises AssessmentError when two folds have a scene in common or differ in kind, or when there
    are none.
    """
    if not folds:
        raise AssessmentError("there is nothing to pool")
    if any(f.legend != folds[0].legend for f in folds):
        raise AssessmentError("evaluations of different legends cannot be pooled")
    if len(roles := sorted({getattr(f, "role", "") for f in folds})) > 1:
        raise AssessmentError(f"evaluations of different kinds cannot be pooled: {roles}")
    update: dict[str, object] = {
        "commands": tuple(dict.fromkeys(c for f in folds for c in f.commands)),
        "models": tuple({m.graph: m for f in folds for m in f.models}.values()),
        "trained_on": tuple(sorted({p for f in folds for p in f.trained_on})),
        "description": " ".join(dict.fromkeys(f.description for f in folds if f.description)),
    }
    for field in folds[0].parts:
        parts = sorted((p for f in folds for p in getattr(f, field)), key=_place_and_name)
        for one, other in pairwise(map(_place_and_name, parts)):
            if one == other:
                raise AssessmentError(f"{'/'.join(one)} was evaluated twice, by two folds")
        update[field] = tuple(parts)
    return folds[0].model_copy(update=update)


def _place_and_name(part: Any) -> tuple[str, str]:  # noqa: ANN401 (a scene or site of any result)
    return part.place, part.name


def accuracy_of(table: Table) -> float:
    """Return the overall accuracy of a table as kept, 0 without pixels."""
    values = np.array(table)
    return float(np.trace(values) / max(1, values.sum()))


def rows_of(table: Counts) -> Table:
    """Return a contingency table as it is kept in JSON and in a card."""
    return tuple(tuple(int(n) for n in row) for row in table)


def sum_of(tables: Iterable[Table]) -> Counts:
    """Return the sum of tables as kept, int64 (classes, classes); of none, that of the default
    legend."""
    each = [np.array(t, np.int64) for t in tables]
    return sum(each[1:], each[0]) if each else np.zeros((CLASSES, CLASSES), np.int64)
