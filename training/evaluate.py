"""How good is the served file? The exported model, through the served code, on whole scenes.

Scenes are read at the model's resolution as the server reads them; the classes are then placed by
nearest neighbor onto the label's own pixels, so that every labeled pixel counts once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from model.card import Assessment, ModelCard
from model.segment import Segmentation, segment
from model.session import Session
from training import artifact
from training.assessment import PER_CENT, Evaluation, ModelFacts, Role, SceneResult, rows_of
from training.metrics import contingency
from training.progress import Say, echo
from training.scenes import CLASSES, Image, Label, Scene, read_at

Look = Callable[[Scene, Segmentation], None]
"""Shown every scene with what the model made of it, on the label's pixels."""


@dataclass(frozen=True)
class Subject:
    """A loaded model file and the facts that its results carry."""

    session: Session
    facts: ModelFacts

    @classmethod
    def load(cls, weights: Path, threads: int = 1) -> Subject:
        """Raises ArtifactError or CardError as the server would."""
        session = Session.load(weights, threads)
        card = session.card
        facts = ModelFacts(
            name=card.name,
            preset=card.training.preset,
            steps=card.training.steps,
            graph=artifact.graph_digest(onnx.load_model_from_string(weights.read_bytes())),
            places=card.training.places,
        )
        return cls(session, facts)


def evaluate(
    subject: Subject,
    scenes: Sequence[Scene],
    *,
    name: str,
    role: Role,
    description: str,
    command: str,
    say: Say = echo,
    look: Look | None = None,
) -> Evaluation:
    """Assesses a model file on `scenes`; `description` says what they are, `command` how to repeat.

    Raises AssessmentError when there are no scenes.
    """
    results = assess(subject.session, scenes, say, look)
    seen = sorted({s.place for s in scenes} & set(subject.facts.places))
    return Evaluation(
        name=name,
        role=role,
        description=description,
        commands=(command,),
        models=(subject.facts,),
        scenes=results,
        trained_on=tuple(seen),
    )


def assess(
    session: Session, scenes: Sequence[Scene], say: Say = echo, look: Look | None = None
) -> tuple[SceneResult, ...]:
    """A model file on whole scenes, one result each, in their order."""
    results = []
    for scene in scenes:
        answer = classify(session, scene)
        result = result_of(scene, answer)
        results.append(result)
        pixels = int(result.table.sum())
        share = np.trace(result.table) / max(1, pixels)
        say(f"{scene.place} {scene.year} {scene.name}: {share:.3f} of {pixels:,} pixels")
        if look is not None:
            look(scene, answer)
    return tuple(results)


def classify(session: Session, scene: Scene) -> Segmentation:
    """What the server would show of a scene, on the label's pixels: uint8 (rows, cols) each."""
    image = at_resolution(scene, session.card.ground_resolution)
    answer = segment(session, image, valid_of(image))
    shape = scene.label.shape
    return Segmentation(onto(answer.classes, shape), onto(answer.confidence, shape))


def result_of(scene: Scene, answer: Segmentation) -> SceneResult:
    """A scene's tables. `answer` lies on the label's pixels; a pixel without imagery is never
    predicted and has no place in the tables.
    """
    reference = np.where(answer.classes > CLASSES, 0, scene.label).astype(np.uint8)
    known = reference > 0
    table = contingency(reference, np.where(known, answer.classes, 0).astype(np.uint8), CLASSES)
    sure = answer.confidence[known]
    hit = answer.classes[known] == reference[known]
    return SceneResult(
        name=scene.name,
        place=scene.place,
        year=scene.year,
        ground=ground_of(scene),
        contingency=rows_of(table),
        confidence=tuple(int(n) for n in np.bincount(sure, minlength=PER_CENT)),
        right=tuple(int(n) for n in np.bincount(sure[hit], minlength=PER_CENT)),
    )


def ground_of(scene: Scene) -> str:
    """A name for the ground a scene shows, the same for other dates of it: its center to the meter
    or, where its position is unknown, the digest of its label.
    """
    if scene.epsg is None:
        return hashlib.sha256(scene.label.tobytes()).hexdigest()[:16]
    box = scene.bounds
    x, y = (box.left + box.right) / 2, (box.bottom + box.top) / 2
    return f"EPSG:{scene.epsg} {x:.0f} {y:.0f}"


def write_accuracy(weights: Path, assessments: Sequence[Assessment]) -> ModelCard:
    """Writes `assessments` into the model file and its card, replacing those there; the network
    stays what it is, the file's digest changes.
    """
    embedded = Session.load(weights).embedded_card()
    graph = onnx.load_model_from_string(weights.read_bytes())
    card = embedded.model_copy(update={"accuracy": tuple(assessments)})
    return artifact.write(graph, card, weights)


def onto(classes: Label, shape: tuple[int, ...]) -> Label:
    """Classes uint8 (rows, cols) over the same ground at another pixel count, by nearest."""
    rows, cols = (
        np.minimum(((np.arange(n) + 0.5) * have / n).astype(np.intp), have - 1)
        for n, have in zip(shape, classes.shape, strict=True)
    )
    return classes[np.ix_(rows, cols)]


def valid_of(image: Image) -> NDArray[np.bool_]:
    """Where there is imagery: bool (rows, cols), False where all bands are zero (collars)."""
    valid: NDArray[np.bool_] = np.any(image, axis=0)
    return valid


def at_resolution(scene: Scene, ground_resolution: float) -> Image:
    """A scene's imagery at another resolution in meters, averaged as it is read: uint8 (4, rows,
    cols). ValueError for a part of a file whose resolution differs.
    """
    if abs(scene.resolution / ground_resolution - 1) < 1e-3:
        return scene.image
    if scene.path is None:
        raise ValueError(f"{scene.name} is a part of a file and has another resolution")
    return read_at(scene.path, ground_resolution, scene.resolution)
