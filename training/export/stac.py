"""A STAC item of a model, with the machine-learning-model extension (MLM 1.4), so that a catalog
can list it beside the imagery that it is for.

https://github.com/stac-extensions/mlm
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx

from model.card import ModelCard
from model.session import Session

MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"

WORLD = (-180.0, -90.0, 180.0, 90.0)
"""A model card does not say where its training places are."""


def item_of(model: Path, href: str = "./landcover.onnx") -> dict[str, Any]:
    """Return the item of a model file as JSON; `href`: where the file is, from the item. Raises
    ModelError for a file that is none."""
    session = Session.load(model)
    card, west, south, east, north = session.card, *WORLD
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [MLM, CLASSIFICATION, FILE],
        "id": f"{card.name}-{session.sha256[:12]}",
        "bbox": list(WORLD),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "datetime": now,
            "description": card.description,
            "license": card.license or "other",
            **_mlm(card, parameters_in(model)),
        },
        "links": [],
        "assets": {
            "model": {
                "href": href,
                "type": "application/octet-stream; application=onnx",
                "title": card.name,
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": "onnx",
                # A multihash: 0x12 is SHA-256, 0x20 its 32 bytes.
                "file:checksum": f"1220{session.sha256}",
            }
        },
    }


def parameters_in(model: Path) -> int:
    """Return the number of weights and biases in a model file."""
    graph = onnx.load_model_from_string(model.read_bytes()).graph
    return sum(math.prod(tensor.dims) for tensor in graph.initializer)


def _mlm(card: ModelCard, parameters: int) -> dict[str, Any]:
    bands, channels = len(card.bands), card.channels
    array = {"dim_order": ["batch", "bands", "height", "width"], "data_type": "float32"}
    scaling = [
        {"type": "z-score", "mean": 255 * mean, "stddev": 255 * std}
        for mean, std in zip(card.mean, card.std, strict=True)
    ]
    return {
        "mlm:name": card.name,
        "mlm:architecture": "U-Net",
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": "ONNX",
        "mlm:pretrained": True,
        "mlm:total_parameters": parameters,
        "mlm:input": [
            {
                "name": "image",
                "bands": [{"name": name} for name in card.bands],
                "input": {"shape": [-1, bands, card.window, card.window], **array},
                "value_scaling": scaling,
                "resize_type": None,
            }
        ],
        "mlm:output": [
            {
                "name": "probabilities",
                "tasks": ["semantic-segmentation"],
                "result": {"shape": [-1, channels, card.window, card.window], **array},
                "classification:classes": [
                    {"value": 0, "name": "background"},
                    *(c.model_dump(exclude_defaults=True) for c in card.legend.classes),
                ],
            }
        ],
        "mlm:hyperparameters": {
            "ground_resolution_m": card.ground_resolution,
            "halo": card.halo,
            "preset": card.training.preset,
            "steps": card.training.steps,
        },
    }
