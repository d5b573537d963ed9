"""Hand-made ONNX models whose answer is known, and the oracle that knows it.

pixelwise      a 1 × 1 convolution: a pixel's class is the signature of the made ground its own
               four bands are nearest to. On pure ground that is `ground.class_at`.
neighborhood  the same on the mean of 63 × 63 pixels: reaches 31 px, so that a missing or
               unaligned halo shows.
slow           pixelwise after some convolutions that change nothing: about 1 s on a 576 px window.
undecided      every class has the same probability everywhere.

The normalization of the card differs from band to band and none of it cancels out: a model fed
with anything else gives other probabilities.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.card import ModelCard
from tests.world.ground import MIDDLE, SIGNATURES

Kind = Literal["pixelwise", "neighborhood", "slow", "undecided"]
KINDS: tuple[Kind, ...] = ("pixelwise", "neighborhood", "slow", "undecided")

REACH = 31
"""Pixels on every side that `neighborhood` depends on: its mean is over 63 × 63."""

SHARPNESS = 0.02
"""Logit per gray level along a signature."""

SLOW_STEPS = 16

MEAN = (0.42, 0.47, 0.40, 0.55)
STD = (0.13, 0.18, 0.11, 0.21)

Doubles = npt.NDArray[np.float64]


def card_of(kind: Kind = "pixelwise", **changes: Any) -> ModelCard:  # noqa: ANN401
    """The card of a hand-made model, fields changed by keyword."""
    fields = {"name": kind, "version": "1.0", "mean": MEAN, "std": STD, "license": "MIT"}
    return ModelCard.model_validate(fields | changes)


def probabilities_by_hand(kind: Kind, image: npt.NDArray[np.uint8]) -> Doubles:
    """float64 (7, rows, cols) of uint8 (4, rows, cols), in double precision.

    Beyond the image `neighborhood` sees 0 after normalization, as its graph does beyond its
    window: right to `REACH` pixels within the border.
    """
    mean, std = np.array(MEAN)[:, None, None], np.array(STD)[:, None, None]
    values = (image / 255 - mean) / std
    if kind == "neighborhood":
        values = _box_mean(values)
    weights, bias = _classifier(kind)
    logits = np.tensordot(weights, values, axes=1) + bias[:, None, None]
    exponentials = np.exp(logits[1:] - logits[1:].max(axis=0))
    none = np.zeros((1, *image.shape[1:]))
    return np.concatenate([none, exponentials / exponentials.sum(axis=0)])


def classes_by_hand(kind: Kind, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 (rows, cols), 1..6: the most probable class, the lowest on ties."""
    classes: npt.NDArray[np.uint8] = probabilities_by_hand(kind, image).argmax(axis=0)
    return classes.astype(np.uint8)


def decided(probabilities: Doubles, margin: float = 1e-3) -> npt.NDArray[np.bool_]:
    """bool (rows, cols): where single precision cannot turn the first class into the second."""
    ordered = np.sort(probabilities, axis=0)
    result: npt.NDArray[np.bool_] = ordered[-1] - ordered[-2] > margin
    return result


def graph_of(kind: Kind, steps: int = SLOW_STEPS) -> onnx.ModelProto:
    """The ONNX model of a kind, without metadata. `steps`: how slow `slow` is."""
    weights, bias = _classifier(kind)
    constants: dict[str, npt.NDArray[Any]] = {"weights": weights[:, :, None, None], "bias": bias}
    nodes = []
    last = "image"
    if kind == "neighborhood":
        side = 2 * REACH + 1
        for name, shape in (("along", (4, 1, 1, side)), ("down", (4, 1, side, 1))):
            constants[name] = np.full(shape, 1 / side)
            pads = [shape[2] // 2, shape[3] // 2] * 2
            nodes.append(
                helper.make_node("Conv", [last, name], [f"{name}_mean"], group=4, pads=pads)
            )
            last = f"{name}_mean"
    if kind == "slow":
        delta = np.zeros((4, 4, 15, 15))
        delta[range(4), range(4), 7, 7] = 1
        constants["delta"] = delta
        for step in range(steps):
            nodes.append(helper.make_node("Conv", [last, "delta"], [f"same{step}"], pads=[7] * 4))
            last = f"same{step}"
    nodes.append(helper.make_node("Conv", [last, "weights", "bias"], ["logits"]))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 4, "rows", "cols"])],
        [
            helper.make_tensor_value_info(
                "probabilities", TensorProto.FLOAT, ["n", 7, "rows", "cols"]
            )
        ],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in constants.items()],
    )
    return model_of(graph)


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    """A graph in the opset and IR version that ONNX Runtime has long known."""
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def with_card(model: onnx.ModelProto, card: ModelCard | str | None) -> bytes:
    """The ONNX file with a card (or, as a str, whatever stands in its place) inside."""
    if card is not None:
        text = card if isinstance(card, str) else card.embedded()
        helper.set_model_props(model, {"landcover:card": text})
    content: bytes = model.SerializeToString()
    return content


def model_bytes(kind: Kind, card: ModelCard | None = None) -> bytes:
    """A hand-made model as an ONNX file, its card inside."""
    return with_card(graph_of(kind), card or card_of(kind))


def write_model(
    path: Path,
    kind: Kind = "pixelwise",
    card: ModelCard | None = None,
    steps: int = SLOW_STEPS,
) -> Path:
    """Writes the ONNX file with its card inside and `<stem>.card.json` beside it, sha256 set."""
    card = card or card_of(kind)
    content = with_card(graph_of(kind, steps), card)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    pinned = card.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    ModelCard.path_beside(path).write_text(pinned.model_dump_json(indent=2))
    return path


def _classifier(kind: Kind) -> tuple[Doubles, Doubles]:
    """weights (7, 4) and bias (7,) on normalized bands; float32 values held as float64."""
    sharpness = 0.0 if kind == "undecided" else SHARPNESS
    weights = np.zeros((7, 4))
    bias = np.full(7, -1e4)
    weights[1:] = sharpness * SIGNATURES * 255 * np.array(STD)
    bias[1:] = sharpness * SIGNATURES @ (255 * np.array(MEAN) - MIDDLE)
    return weights.astype(np.float32).astype(float), bias.astype(np.float32).astype(float)


def _box_mean(values: Doubles) -> Doubles:
    """Mean over 63 × 63, zeros outside: prefix sums along both axes."""
    side = 2 * REACH + 1
    padded = np.pad(values, ((0, 0), (REACH + 1, REACH), (REACH + 1, REACH)))
    sums = padded.cumsum(axis=1).cumsum(axis=2)
    boxes = sums[:, side:, side:] - sums[:, :-side, side:]
    boxes += sums[:, :-side, :-side] - sums[:, side:, :-side]
    mean: Doubles = boxes / side**2
    return mean
