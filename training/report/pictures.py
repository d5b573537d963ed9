"""Pictures of a scene: imagery, label, prediction and errors, as small PNG files."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from model.legend import NODATA, rgb_of
from model.segment import Segmentation
from training.data.scenes import Image, Label, Scene

LONGEST = 512
"""Pixels of a picture's longer side; larger scenes are thinned."""

UNLABELED = "FFFFFF"
RIGHT = "D5E8D4"
WRONG = "C0392B"


@dataclass(frozen=True)
class Preview:
    """Pictures of one scene as PNG bytes, all of one size."""

    imagery: bytes
    label: bytes
    prediction: bytes
    errors: bytes


class ScenePreviews:
    """The pictures of an evaluation's scenes, collected while it runs."""

    def __init__(self) -> None:
        self._previews: dict[tuple[str, str], Preview] = {}

    def add(self, scene: Scene, answer: Segmentation) -> None:
        """Add the pictures of a scene (see `evaluation.OnScene`)."""
        self._previews[scene.place, scene.name] = preview_of(scene, answer)

    def figures(self, place: str, name: str) -> list[tuple[str, str]]:
        """Return the pictures of a scene as title and base64 of the PNG; none if there are none."""
        preview = self._previews.get((place, name))
        if preview is None:
            return []
        return [(what, base64.b64encode(png).decode()) for what, png in vars(preview).items()]


def preview_of(scene: Scene, answer: Segmentation) -> Preview:
    """Return the pictures of a scene; `answer` is on the label's pixels. Errors are red where
    wrong, pale green where right, white where there is no label."""
    step = -(-max(scene.label.shape) // LONGEST)
    image = scene.image[:, ::step, ::step]
    label, classes = scene.label[::step, ::step], answer.classes[::step, ::step]
    wrong = np.where(label == 0, 0, np.where(label == classes, 1, 2)).astype(np.uint8)
    wrong[classes == NODATA] = 0
    colors = [UNLABELED, *(c.color_hint for c in scene.legend.classes)]
    return Preview(
        imagery=true_color(image),
        label=_paletted(label, colors),
        prediction=_paletted(np.where(classes >= len(colors), 0, classes).astype(np.uint8), colors),
        errors=_paletted(wrong, [UNLABELED, RIGHT, WRONG]),
    )


def true_color(image: Image) -> bytes:
    """Return red, green, blue of uint8 (4, rows, cols), stretched between their 1st and 99th
    percentile, as a PNG."""
    bands = image[:3]
    data: NDArray[np.uint8] = bands[:, image.any(axis=0)]
    if not data.size:
        data = bands.reshape(3, -1)
    low, high = np.percentile(data, [1, 99])
    scaled = (bands.astype(np.float32) - low) * (255 / max(high - low, 1))
    rgb = np.clip(np.rint(scaled), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return _png(Pillow.fromarray(np.ascontiguousarray(rgb)))


def _paletted(values: Label, colors: list[str]) -> bytes:
    picture = Pillow.fromarray(np.ascontiguousarray(values))
    picture.putpalette([part for color in colors for part in rgb_of(color)])
    return _png(picture)


def _png(picture: Pillow.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return out.getvalue()
