"""A model file for the QGIS plugin Deepness: the same network with axes of one size.

The plugin's panel takes the tile size from the file's input: it refuses axes that have names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from model.card import ModelCard
from model.session import Session
from training.errors import ExportError
from training.export import artifact

TOLERANCE = 1e-4
"""Largest difference of any probability between the two files."""


def write_deepness(weights: Path, out: Path) -> int:
    """Write the model file `weights` with square axes of Deepness' tile size; return that, in px.

    The batch axis stays free. Raises ExportError, nothing written, when the new file gives other
    probabilities; ArtifactError or CardError for a bad model.
    """
    session = Session.load(weights)
    card = session.embedded_card()
    tile, _ = artifact.deepness_tiles(card)
    content = artifact.stamped(fixed(onnx.load_model_from_string(weights.read_bytes()), tile), card)
    difference = _difference(content, session, card, tile)
    if not difference <= TOLERANCE:
        raise ExportError(
            f"the file for Deepness differs by {difference:.2e} (limit {TOLERANCE:.0e})"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.draft")
    draft.write_bytes(content)
    draft.replace(out)
    return tile


def fixed(graph: onnx.ModelProto, side: int) -> onnx.ModelProto:
    """Return the graph with rows and columns of `side` at its input and its output."""
    for value in (*graph.graph.input, *graph.graph.output):
        for axis in (2, 3):
            value.type.tensor_type.shape.dim[axis].dim_value = side
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _difference(content: bytes, session: Session, card: ModelCard, side: int) -> float:
    random = np.random.default_rng(15)
    batch = random.standard_normal((1, len(card.bands), side, side)).astype(np.float32)
    run = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    (answer,) = run.run(None, {run.get_inputs()[0].name: batch})
    return float(np.abs(answer - session.predict(batch)).max())
