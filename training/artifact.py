"""The model file and the card beside it: metadata in, two files out.

`landcover:card` holds the whole card; the keys without a prefix are those QGIS Deepness reads
(values JSON-encoded, resolution in cm per pixel, overlap in per cent).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path

import onnx

from model.card import METADATA_PREFIX, ModelCard
from model.session import CARD_KEY, Session
from model.windows import MULTIPLE


def metadata(card: ModelCard) -> dict[str, str]:
    """metadata_props of a model file. Deepness: threshold and small-segment filter are off, so
    that it shows the classes that we serve.
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
    """Tile size in px and overlap in whole per cent for QGIS Deepness, which keeps the middle of
    a tile: half the overlap is the halo, and tiles start on the network's lattice.

    The smallest such tile that is no smaller than our window; where there is none (a halo no whole
    per cent stands for), the window and the next higher per cent.
    """
    for percent in range(49, 0, -1):
        tile, rest = divmod(200 * card.halo, percent)
        if not rest and not tile % MULTIPLE and tile >= card.window:
            return tile, percent
    return card.window, math.ceil(200 * card.halo / card.window)


def stamped(graph: onnx.ModelProto, card: ModelCard) -> bytes:
    """The model file's bytes: the graph with the card's metadata and nothing else's."""
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, metadata(card))
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def graph_digest(graph: onnx.ModelProto) -> str:
    """SHA-256 of the network alone, whatever card it carries."""
    bare = onnx.ModelProto()
    bare.CopyFrom(graph)
    del bare.metadata_props[:]
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def write(graph: onnx.ModelProto, card: ModelCard, path: Path) -> ModelCard:
    """Writes `path` and the card beside it, each by renaming; returns the card with its digest.

    What is about to be written is loaded first as the server will load it: ModelError, and nothing
    written, when that is refused.
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
