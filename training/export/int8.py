"""The model file in 8 bits: smaller, faster on processors with 8-bit instructions, and refused when
it disagrees with the one in 32 bits.

Static quantization in QDQ form (Jacob et al. 2018): activations uint8, weights int8 per channel and
in 7 bits (`reduce_range`): without VNNI, AVX2 adds pairs of products in 16 bits, which full 8-bit
weights overflow. Signed activations (s8s8) are never written: other runtimes compute them wrongly.
As few outer levels as the agreement allows stay in 32 bits: they determine the edges.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from model.card import ModelCard
from model.normalize import normalize
from model.session import Session
from model.windows import MULTIPLE
from training.config import Preset
from training.data.resolution import at_resolution
from training.data.scenes import Scene, read_chips
from training.data.splits import Split, split_places
from training.errors import ExportError
from training.evaluate.evaluation import classify, result_of
from training.evaluate.metrics import scores
from training.evaluate.results import table_of
from training.export import artifact
from training.progress import Log, print_line

MIN_AGREEMENT = 0.995
"""Share of the pixels that must get the same class as from the 32-bit file."""

MAX_LOSS = 0.005
"""Overall accuracy that may be lost on validation."""

WINDOWS = 64
"""Scenes for calibration, evenly from all places."""

EXACT_LEVELS = (1, 2, 3)
"""Outer levels kept in 32 bits, tried in this order. Measured with the model shipped on 2026-11-23:
1 level 1.86 times as fast as 32 bits at 98.98 % agreement, 2 levels 1.50 times at 99.74 %."""

SUFFIX = ".int8.onnx"


@dataclass(frozen=True)
class Comparison:
    """The 8-bit file, with `exact` outer levels in 32 bits, against the 32-bit one: pixels, share
    of equal classes, overall accuracies."""

    pixels: int
    agreement: float
    overall: float
    overall_fp32: float
    exact: int

    @property
    def fact(self) -> str:
        """Return the comparison in words, for the card."""
        levels = "1 outer level" if self.exact == 1 else f"{self.exact} outer levels"
        return (
            f"8-bit (static QDQ, u8s8, 7-bit weights per channel; {levels} in 32 bits): "
            f"{100 * self.agreement:.2f} % of {self.pixels:,} validation pixels get the class of "
            f"the 32-bit file; overall accuracy on their labels {100 * self.overall:.2f} %, "
            f"in 32 bits {100 * self.overall_fp32:.2f} %."
        )


def calibration_split(preset: Preset, chips: Path) -> Split:
    """Return the chips for calibration (train) and for the comparison (validation), as `preset`
    splits them; a preset without validation chips gets the default share of them.
    """
    if not preset.validation_share:
        apart = Preset(name=preset.name).validation_share
        preset = preset.model_copy(update={"validation_share": apart})
    scenes = read_chips(
        chips, without=preset.left_out, legend=preset.legend, bands=len(preset.bands)
    )
    return split_places(scenes, preset)


def quantize(
    weights: Path,
    calibration: Sequence[Scene],
    validation: Sequence[Scene],
    out: Path,
    log: Log = print_line,
) -> tuple[ModelCard, Comparison]:
    """Write the 8-bit file of `weights` to `out`, with the same card, its own digest, and a
    sentence on how well it agrees.

    `calibration`: training scenes. Raises ExportError, and writes nothing, when there is no scene
    on either side, when the graph has nothing to quantize, or when it disagrees with `weights`.
    """
    if not calibration or not any(s.label.any() for s in validation):
        raise ExportError(
            "8 bits need training scenes for calibration and labeled validation scenes"
        )
    fp32 = Session.load(weights)
    card = fp32.embedded_card()
    graph = onnx.load_model_from_string(weights.read_bytes())
    windows = [_pixels(s, card) for s in spread(calibration, WINDOWS)]
    for exact in EXACT_LEVELS:
        small = quantized(graph, windows, exact)
        int8 = Session(artifact.stamped(small, card))
        result = compare(fp32, int8, validation, exact)
        log(result.fact)
        if result.agreement >= MIN_AGREEMENT or exact == EXACT_LEVELS[-1]:
            break
    check(result)
    text = f"{card.description} {result.fact}".strip()
    written = artifact.write(small, card.model_copy(update={"description": text}), out)
    return written, result


def quantized(
    graph: onnx.ModelProto, windows: Sequence[NDArray[np.float32]], exact: int = 1
) -> onnx.ModelProto:
    """Return the graph in 8 bits except for its `exact` outer levels, calibrated on `windows`:
    float32 (4, rows, cols) each.

    Raises ExportError when no convolution would be quantized.
    """
    outer = tuple(f"{part}{level}" for part in ("down", "join", "up") for level in range(exact))
    # What enters the first 8-bit level costs little and errs most: half of all that differs.
    kept_names = (*outer, f"down{exact}.conv1", "last")
    kept = [n.name for n in graph.graph.node if n.name.startswith(kept_names)]
    inner = [n for n in graph.graph.node if n.op_type == "Conv" and n.name not in kept]
    if not inner:
        raise ExportError("the graph has no inner convolution to quantize")
    with tempfile.TemporaryDirectory(prefix="landcover-int8-") as folder:
        raw, first, second = (Path(folder, n) for n in ("raw.onnx", "fp32.onnx", "int8.onnx"))
        onnx.save(graph, raw)
        # Shapes only: its optimizer would rename the nodes that are excluded by name.
        quant_pre_process(str(raw), str(first), skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            str(first),
            str(second),
            _Windows(graph.graph.input[0].name, windows),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(second)


def compare(fp32: Session, int8: Session, scenes: Sequence[Scene], exact: int = 1) -> Comparison:
    """Compare both files on whole scenes, with the serving code."""
    pixels = same = 0
    results = []
    for scene in scenes:
        one, other = classify(fp32, scene), classify(int8, scene)
        there = one.classes <= len(fp32.card.legend.classes)
        pixels += int(there.sum())
        same += int((one.classes == other.classes)[there].sum())
        results.append((result_of(scene, one), result_of(scene, other)))
    before, after = (scores(table_of(side)).overall for side in zip(*results, strict=True))
    return Comparison(pixels, same / max(1, pixels), after, before, exact)


def check(result: Comparison) -> None:
    """Raise ExportError when the 8-bit file differs too much."""
    if not result.agreement >= MIN_AGREEMENT:
        raise ExportError(
            f"the 8-bit file gives {100 * result.agreement:.2f} % of {result.pixels:,} pixels the "
            f"class of the 32-bit file (limit {100 * MIN_AGREEMENT:g} %)"
        )
    if not round(result.overall_fp32 - result.overall, 9) <= MAX_LOSS:
        raise ExportError(
            f"the 8-bit file's overall accuracy is {100 * result.overall:.2f} %, that of the "
            f"32-bit file {100 * result.overall_fp32:.2f} % (limit {100 * MAX_LOSS:g} points)"
        )


def spread(scenes: Sequence[Scene], count: int) -> list[Scene]:
    """Return at most `count` scenes, as evenly from all places as possible, in the given order."""
    places: dict[str, list[Scene]] = {}
    for scene in scenes:
        places.setdefault(scene.place, []).append(scene)
    rounds = max((len(members) for members in places.values()), default=0)
    turns = [m[i] for i in range(rounds) for m in places.values() if i < len(m)]
    return turns[:count]


class _Windows(CalibrationDataReader):  # type: ignore[misc]
    """The windows of the calibration, one after the other."""

    def __init__(self, name: str, windows: Sequence[NDArray[np.float32]]) -> None:
        self._feeds: Iterator[dict[str, NDArray[np.float32]]] = (
            {name: window[None]} for window in windows
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next feed, None at the end."""
        return next(self._feeds, None)


def _pixels(scene: Scene, card: ModelCard) -> NDArray[np.float32]:
    """Return a scene as network input, padded to multiples of 16 by mirroring."""
    image = at_resolution(scene, card.ground_resolution)[:, :512, :512]
    more = [(0, -n % MULTIPLE) for n in image.shape[1:]]
    return normalize(np.pad(image, [(0, 0), *more], "reflect"), card)
