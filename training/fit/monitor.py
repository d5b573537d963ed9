"""A run while it trains: validation, learning curves, predictions of a few scenes.

The figures that are reported come from training/evaluate, on the exported file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from model.card import ModelCard
from model.segment import Segmentation
from training.data.augment import resize_scene
from training.data.dataset import Data
from training.data.scenes import Scene
from training.evaluate.metrics import Counts, contingency, scores
from training.network.build import Network
from training.network.checkpoint import Checkpoint
from training.network.inference import classes_of
from training.report.diagrams import learning_curves
from training.report.pictures import preview_of

ROWS = 6
SIDE = 192
"""Pixels of the card's resolution that are shown of a scene."""


def contingency_of(net: Network, scenes: Sequence[Scene], card: ModelCard) -> Counts:
    """Return the contingency table, int64 (classes, classes), of a network in evaluation mode on
    whole scenes at the card's resolution.
    """
    count = len(card.legend.classes)
    total = np.zeros((count, count), np.int64)
    for scene in scenes:
        image, label = resize_scene(scene, card.ground_resolution)
        total += contingency(label, classes_of(net, image, card), count)
    return total


def record_validation(
    state: Checkpoint, ema: Network, card: ModelCard, data: Data, loss: float
) -> bool:
    """Add the training loss and a validation to the state's history; return True when it is the
    best so far.

    The score is the mean of overall accuracy and macro F1, over real and synthetic scenes.
    """
    result = {
        side: scores(contingency_of(ema, scenes, card)) for side, scenes in data.validation.items()
    }
    each = [(s.overall + s.macro_f1) / 2 for s in result.values()]
    score = float(np.mean(each)) if each else float(state.step)
    entry = {"step": float(state.step), "loss": loss, "score": score}
    for side, s in result.items():
        entry |= {f"{side}_overall": s.overall, f"{side}_macro_f1": s.macro_f1}
    state.history.append(entry)
    better = score > state.best_score
    state.best_score, state.waited = (score, 0) if better else (state.best_score, state.waited + 1)
    return better


def append_log(run: Path, state: Checkpoint, pace: float) -> None:
    """Add the last validation to `log.jsonl`, one JSON object for each; `pace`: seconds a step."""
    entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **state.history[-1]}
    entry["steps_per_s"] = round(1 / pace, 3) if pace > 0 else None
    with (run / "log.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(entry) + "\n")


def write_scalars(run: Path, state: Checkpoint) -> None:
    """Add the last validation to the folder `tensorboard`. Needs the extra `tensorboard`."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (an extra)

    entry = state.history[-1]
    with SummaryWriter(str(run / "tensorboard")) as writer:
        for name, value in entry.items():
            if name != "step":
                writer.add_scalar(name, value, int(entry["step"]))


def write_pictures(run: Path, state: Checkpoint, ema: Network, card: ModelCard, data: Data) -> None:
    """Write `curves.svg`, and `samples.png` of validation scenes, or of training scenes where there
    are none."""
    (run / "curves.svg").write_text(learning_curves(state.history), encoding="utf-8")
    kept = [s for side in data.validation.values() for s in side]
    (run / "samples.png").write_bytes(samples(ema, kept or data.train, card))


def samples(net: Network, scenes: Sequence[Scene], card: ModelCard) -> bytes:
    """Return imagery, label, prediction and errors (red) of up to six scenes as one PNG."""
    if not scenes:
        raise ValueError("no scene to show")
    selected = [
        scenes[i] for i in np.linspace(0, len(scenes) - 1, min(ROWS, len(scenes)), dtype=int)
    ]
    sheet = Pillow.new("RGB", (4 * (SIDE + 4), len(selected) * (SIDE + 4)), "#ffffff")
    for row, scene in enumerate(selected):
        side = round(SIDE * card.ground_resolution / scene.resolution)
        part = scene.window(0, 0, *(min(side, n) for n in scene.label.shape))
        image, label = resize_scene(part, card.ground_resolution)
        classes = classes_of(net, image, card)
        read = replace(part, image=image, label=label, resolution=card.ground_resolution)
        shown = preview_of(read, Segmentation(classes, np.zeros_like(classes)))
        for column, png in enumerate((shown.imagery, shown.label, shown.prediction, shown.errors)):
            picture = Pillow.open(io.BytesIO(png)).convert("RGB")
            sheet.paste(picture, (column * (SIDE + 4), row * (SIDE + 4)))
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()
