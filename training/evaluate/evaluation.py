"""Evaluation of a model file: the exported model and the serving code, on whole scenes.

Scenes are read at the model's resolution as the server reads them; the classes are then resampled
by nearest neighbor to the label's own pixels, so that every labeled pixel counts once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from model.segment import Segmentation, segment
from model.session import Session
from training.data.resolution import at_resolution, resize_nearest, valid_of
from training.data.scenes import Scene
from training.errors import AssessmentError
from training.evaluate.metrics import contingency
from training.evaluate.results import PER_CENT, Evaluation, ModelFacts, Role, SceneResult, rows_of
from training.progress import Log, print_line

OnScene = Callable[[Scene, Segmentation], None]
"""Called with every scene and its classes, on the label's pixels."""


@dataclass(frozen=True)
class Subject:
    """A loaded model file and the facts that its results keep."""

    session: Session
    facts: ModelFacts

    @classmethod
    def load(cls, weights: Path, threads: int = 1) -> Subject:
        """Load a model file. Raises ArtifactError or CardError as the server would."""
        session = Session.load(weights, threads)
        card = session.card
        facts = ModelFacts(
            name=card.name,
            preset=card.training.preset,
            steps=card.training.steps,
            graph=graph_digest(onnx.load_model_from_string(weights.read_bytes())),
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
    log: Log = print_line,
    on_scene: OnScene | None = None,
) -> Evaluation:
    """Evaluate a model file on `scenes`; `description` says what they are, `command` how to repeat
    it.

    Raises AssessmentError when a scene has other classes or bands than the model.
    """
    card = subject.session.card
    for scene in scenes:
        if scene.legend != card.legend or len(scene.image) != len(card.bands):
            raise AssessmentError(
                f"{scene.name} has {len(scene.image)} bands and the classes "
                f"{[c.name for c in scene.legend.classes]}, the model {len(card.bands)} and "
                f"{[c.name for c in card.legend.classes]}"
            )
    results = assess(subject.session, scenes, log, on_scene)
    seen = sorted({s.place for s in scenes} & set(subject.facts.places))
    return Evaluation(
        name=name,
        role=role,
        description=description,
        commands=(command,),
        models=(subject.facts,),
        legend=card.legend,
        scenes=results,
        trained_on=tuple(seen),
    )


def assess(
    session: Session,
    scenes: Sequence[Scene],
    log: Log = print_line,
    on_scene: OnScene | None = None,
) -> tuple[SceneResult, ...]:
    """Return the results of a model file on whole scenes, in their order."""
    results = []
    for scene in scenes:
        answer = classify(session, scene)
        result = result_of(scene, answer)
        results.append(result)
        pixels = int(result.table.sum())
        share = np.trace(result.table) / max(1, pixels)
        log(f"{scene.place} {scene.year} {scene.name}: {share:.3f} of {pixels:,} pixels")
        if on_scene is not None:
            on_scene(scene, answer)
    return tuple(results)


def classify(session: Session, scene: Scene) -> Segmentation:
    """Return what the server would show, on the label's pixels: uint8 (rows, cols) each."""
    image = at_resolution(scene, session.card.ground_resolution)
    answer = segment(session, image, valid_of(image))
    shape = scene.label.shape
    return Segmentation(
        resize_nearest(answer.classes, shape), resize_nearest(answer.confidence, shape)
    )


def result_of(scene: Scene, answer: Segmentation) -> SceneResult:
    """Return a scene's tables. `answer` is on the label's pixels; pixels without imagery are not
    counted.
    """
    count = len(scene.legend.classes)
    reference = np.where(answer.classes > count, 0, scene.label).astype(np.uint8)
    known = reference > 0
    table = contingency(reference, np.where(known, answer.classes, 0).astype(np.uint8), count)
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
    """Return an identifier of a scene's ground, the same for other dates of it: its center to the
    meter or, where its position is unknown, the digest of its label.
    """
    if scene.epsg is None:
        return hashlib.sha256(scene.label.tobytes()).hexdigest()[:16]
    box = scene.bounds
    x, y = (box.left + box.right) / 2, (box.bottom + box.top) / 2
    return f"EPSG:{scene.epsg} {x:.0f} {y:.0f}"


def graph_digest(graph: onnx.ModelProto) -> str:
    """Return the SHA-256 of the network alone, independent of its metadata."""
    bare = onnx.ModelProto()
    bare.CopyFrom(graph)
    del bare.metadata_props[:]
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()
