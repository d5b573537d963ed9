"""A quick look at a net while it trains; what is reported comes from evaluate.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.card import ModelCard
from training.augment import resize_scene
from training.checkpoint import Checkpoint
from training.coarse import classes_of
from training.data import Data
from training.metrics import Counts, contingency, scores
from training.scenes import CLASSES, Scene
from training.unet import UNet


def judge(net: UNet, scenes: Sequence[Scene], card: ModelCard) -> Counts:
    """Contingency of a net in evaluation mode on whole scenes, read at the card's resolution:
    int64 (6, 6).
    """
    total = np.zeros((CLASSES, CLASSES), np.int64)
    for scene in scenes:
        image, label = resize_scene(scene, card.ground_resolution)
        total += contingency(label, classes_of(net, image, card), CLASSES)
    return total


def note(state: Checkpoint, ema: UNet, card: ModelCard, data: Data, loss: float) -> bool:
    """Notes the training loss and the validation in the state; True when it is the best so far.

    The score is the mean of overall accuracy and macro F1, over real and made scenes alike.
    """
    found = {side: scores(judge(ema, scenes, card)) for side, scenes in data.validation.items()}
    each = [(s.overall + s.macro_f1) / 2 for s in found.values()]
    score = float(np.mean(each)) if each else float(state.step)
    entry = {"step": float(state.step), "loss": loss, "score": score}
    for side, s in found.items():
        entry |= {f"{side}_overall": s.overall, f"{side}_macro_f1": s.macro_f1}
    state.history.append(entry)
    better = score > state.best_score
    state.best_score, state.waited = (score, 0) if better else (state.best_score, state.waited + 1)
    return better
