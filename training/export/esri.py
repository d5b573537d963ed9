"""Files to run a model in ArcGIS: a model definition (.emd), a raster function, a package of both.

The raster function is `esri_function.py` with the code for normalization and padding copied in from
`model`, so that the file needs no package of ours.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from model import edges, normalize
from model.card import ModelCard
from model.session import Session
from training.export import esri_function

COPIED = (edges.reflect_pad_invalid, edges._mirror, normalize.normalize)
CLASS = "class LandCover:"


@dataclass(frozen=True)
class EsriFiles:
    """The files written, all in one folder."""

    emd: Path
    function: Path
    model: Path
    package: Path


def write_esri(weights: Path, folder: Path) -> EsriFiles:
    """Write `<name>.emd` and `<name>_raster_function.py` into `folder`, a copy of the model file
    unless it is there already, and `<name>.dlpk`, the deep learning model package of these three.
    Raises ArtifactError or CardError for a bad model.
    """
    card = Session.load(weights).card
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / weights.name
    if model.resolve() != weights.resolve():
        shutil.copyfile(weights, model)
    # ArcGIS looks for a class with the name of the file: an identifier.
    stem = re.sub(r"\W", "_", weights.stem)
    name = f"{stem if not stem[:1].isdigit() else '_' + stem}_raster_function"
    function, emd = folder / f"{name}.py", folder / f"{weights.stem}.emd"
    function.write_text(raster_function(name), encoding="utf-8")
    emd.write_text(json.dumps(definition(card, model.name, function.name), indent=2) + "\n")
    package = emd.with_suffix(".dlpk")
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (emd, function, model):
            archive.write(path, path.name)
    return EsriFiles(emd, function, model, package)


def definition(card: ModelCard, model: str, function: str) -> dict[str, object]:
    """Return the model definition: class values of our rasters, padding is the card's halo.

    Without `DataRange`: ArcGIS stretches a raster's actual range to it, and the network expects the
    values as they are (Esri/raster-deep-learning, docs/writing_model_definition.md).
    """
    return {
        "Framework": "Onnx",
        "ModelConfiguration": Path(function).stem,
        "ModelFile": model,
        "ModelType": "ImageClassification",
        "ModelName": card.name,
        "Version": card.version,
        "Description": card.description,
        "InferenceFunction": function,
        "ImageHeight": card.window,
        "ImageWidth": card.window,
        "ExtractBands": list(range(len(card.bands))),
        "Padding": card.halo,
        "BatchSize": 1,
        "GroundResolution": card.ground_resolution,
        "Classes": [
            {"Value": c.value, "Name": c.title, "Color": list(c.rgb)} for c in card.legend.classes
        ],
    }


def raster_function(name: str) -> str:
    """Return the source of the raster function with class `name`: onnxruntime and numpy only."""
    source = inspect.getsource(esri_function)
    head, _ = source.split("# The code that serves", 1)
    if CLASS not in head:
        raise AssertionError(f"{CLASS!r} is not in esri_function.py")
    copied = "\n\n".join(inspect.getsource(function) for function in COPIED)
    return head.replace(CLASS, f"class {name}:") + copied
