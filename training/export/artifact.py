"""The model file and its card: metadata, bytes, atomic writing.

`landcover:card` holds the whole card; the keys without a prefix are those QGIS Deepness reads
(values JSON-encoded, resolution in cm per pixel, overlap in percent).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import onnx

from model.card import METADATA_PREFIX, Assessment, ModelCard
from model.session import CARD_KEY, Session
from model.windows import MULTIPLE


def metadata(card: ModelCard) -> dict[str, str]:
    """Return the metadata of a model file. Threshold and small-segment filter of Deepness are off,
    so that it shows the classes that we serve.
    """
    legend = card.legend
    tile, overlap = deepness_tiles(card)
    names = {"0": "background"} | {str(c.value): c.name for c in legend.classes}
    deepness: dict[str, object] = {
        "model_type": "Segmentor",
        "class_names": names,
        "resolution": card.ground_resolution * 100,
        "tile_size": tile,
        "tiles_size": tile,
        "tiles_overlap": overlap,
        "standardization_mean": list(card.mean),
        "standardization_std": list(card.std),
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }
    ours: dict[str, object] = {
        "version": card.version,
        "bands": list(card.bands),
        "classes": [c.model_dump(mode="json") for c in legend.classes],
        "ground_resolution_m": card.ground_resolution,
        "halo": card.halo,
        "license": card.license,
        "attribution": card.attribution,
    }
    props = {key: json.dumps(value) for key, value in deepness.items()}
    props |= {METADATA_PREFIX + key: json.dumps(value) for key, value in ours.items()}
    return props | {CARD_KEY: card.embedded()}


def deepness_tiles(card: ModelCard) -> tuple[int, int]:
    """Return tile size in px and overlap in whole percent for QGIS Deepness, which keeps the center
    of a tile: half the overlap is the halo, and tiles start at multiples of MULTIPLE.

    It is the smallest such tile not smaller than our window; where no whole percent equals the
    halo, the window and the next higher percent.
    """
    for percent in range(49, 0, -1):
        tile, rest = divmod(200 * card.halo, percent)
        if not rest and not tile % MULTIPLE and tile >= card.window:
            return tile, percent
    return card.window, math.ceil(200 * card.halo / card.window)


def stamped(graph: onnx.ModelProto, card: ModelCard) -> bytes:
    """Return the bytes of a model file: the graph with the card's metadata only."""
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, metadata(card))
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def write(graph: onnx.ModelProto, card: ModelCard, path: Path) -> ModelCard:
    """Write `path` and the card beside it, atomically; return the card with the file's digest.

    The bytes are first loaded as the server will load them: ModelError, and nothing written, when
    that fails.
    """
    content = stamped(graph, card)
    final = card.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    Session(content, final).check_card()
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = ModelCard.path_beside(path)
    text = json.dumps(final.model_dump(mode="json"), indent=1) + "\n"
    drafts = [(path, content), (beside, text.encode())]
    for target, data in drafts:
        _draft(target).write_bytes(data)
    for target, _ in drafts:
        _draft(target).replace(target)
    return final


def _draft(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}")


def write_accuracy(weights: Path, assessments: Sequence[Assessment]) -> ModelCard:
    """Write `assessments` into the model file and its card, replacing the present ones; the network
    stays the same, the file's digest changes.
    """
    embedded = Session.load(weights).embedded_card()
    graph = onnx.load_model_from_string(weights.read_bytes())
    card = embedded.model_copy(update={"accuracy": tuple(assessments)})
    return write(graph, card, weights)
