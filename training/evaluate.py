"""How good is the file that is served? The exported model, through the served code, on ground
that no step of training and no choice has seen.

Scenes are read at the model's resolution as the server reads them; the classes are then placed by
nearest neighbour onto the label's own pixels, so that every labelled pixel counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from model.card import Assessment, ModelCard
from model.segment import segment
from model.session import Session
from training import artefact
from training.config import Preset
from training.metrics import Counts, contingency
from training.progress import Say, echo
from training.scenes import CLASSES, Image, Label, Scene, read_at, read_chips, read_county
from training.splits import split_county, split_places


def evaluate(
    weights: Path, preset: Preset, chips: Path, county: Path | None, threads: int = 1
) -> ModelCard:
    """Assesses the model file `weights` and writes the result into it and its card.

    Held out is what `preset` holds out: each held-out place of `chips`, and the core of one
    quarter of Demo County where `county` is given.
    """
    session = Session.load(weights, threads)
    found: list[Assessment] = []
    real = split_places(read_chips(chips, without=preset.left_out), preset).test
    for place in preset.held_out:
        members = [s for s in real if s.place == place]
        years = sorted({s.year for s in members})
        found.append(
            Assessment(
                name=place,
                description=(
                    f"{len(members)} NAIP chips of {place} ({', '.join(years)}); no chip of this "
                    "place was used for training or to choose a checkpoint. Labels: "
                    "photo-interpreted superpixels."
                ),
                contingency=_rows(assess(session, members)),
            )
        )
    if county is not None:
        made = split_county(read_county(county), preset).test
        years = sorted({s.year for s in made})
        found.append(
            Assessment(
                name="demo_county",
                description=(
                    f"Core of quarter {preset.made_held_out!r} of Demo County "
                    f"({', '.join(years)}); procedural imagery, its ground and {preset.margin_m:g} "
                    "m around it kept from training in every scene and year."
                ),
                contingency=_rows(assess(session, made)),
            )
        )
    graph = onnx.load_model_from_string(weights.read_bytes())
    card = session.embedded_card().model_copy(update={"accuracy": tuple(found)})
    return artefact.write(graph, card, weights)


def assess(session: Session, scenes: Sequence[Scene], say: Say = echo) -> Counts:
    """Contingency of a model file over whole scenes: int64 (6, 6), reference by prediction."""
    total = np.zeros((CLASSES, CLASSES), np.int64)
    for scene in scenes:
        image = _at_resolution(scene, session.card.ground_resolution)
        valid = ~(image == 0).all(axis=0)
        classes = segment(session, image, valid).classes
        placed = onto(classes, scene.label.shape)
        # A pixel without imagery is never predicted; it has no place in the table.
        reference = np.where(placed > CLASSES, 0, scene.label).astype(np.uint8)
        table = contingency(reference, np.where(reference > 0, placed, 0), CLASSES)
        total += table
        share = np.trace(table) / max(1, table.sum())
        say(f"{scene.place} {scene.year} {scene.name}: {share:.3f} of {table.sum():,} pixels")
    return total


def onto(classes: Label, shape: tuple[int, ...]) -> Label:
    """Classes uint8 (rows, cols) over the same ground at another pixel count, by nearest."""
    rows, cols = (
        np.minimum(((np.arange(n) + 0.5) * have / n).astype(np.intp), have - 1)
        for n, have in zip(shape, classes.shape, strict=True)
    )
    return classes[np.ix_(rows, cols)]


def _at_resolution(scene: Scene, ground_resolution: float) -> Image:
    if abs(scene.resolution / ground_resolution - 1) < 1e-3:
        return scene.image
    if scene.path is None:
        raise ValueError(f"{scene.name} is a part of a file and has another resolution")
    return read_at(scene.path, ground_resolution, scene.resolution)


def _rows(table: Counts) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(n) for n in row) for row in table)
