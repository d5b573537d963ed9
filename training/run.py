"""Labels to a served model as one run: mosaic, labels, chips, split, fit, export, evaluate.

A step is done again only when what goes into it, or what came out of it, has changed. Steps write
whole files or none, and `fit` goes on from its last checkpoint: a killed run is simply run again.
"""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import version
from pathlib import Path

import torch

from training.checkpoint import Checkpoint
from training.chips import cut
from training.errors import StepError
from training.evaluate import Subject, evaluate, write_accuracy
from training.export import export
from training.files import sha256, whole, write_json
from training.fit import fit
from training.folds import read_split, split_chips
from training.imagery import find
from training.labels import label
from training.manifest import read_manifest
from training.mosaic import mosaic
from training.own import held_out_scenes, read_own
from training.progress import Bar
from training.recipe import Recipe
from training.report.evaluation import write as write_evaluation
from training.report.html import Album
from training.steps import Step, commit, digests, do, read_record

MODEL = "landcover.onnx"
PACKAGES = ("torch", "numpy", "rasterio", "onnx", "onnxruntime", "h5py", "shapely", "pyogrio")


def perform(recipe: Recipe, folder: Path) -> Path:
    """Does what is not done yet and returns the model file, `landcover.onnx` in the run folder.

    Raises StepError when the folder holds something else, and what the steps raise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = read_record(folder)
    data = _data(recipe)
    record |= {
        "preset": recipe.model_dump(mode="json"),
        "fit": recipe.fit.chosen().model_dump(mode="json"),
        "data": data,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "git": commit(),
    }
    torch.set_num_threads(recipe.threads)
    for begin in (_mosaic, _labels, _chips, _split, _fit, _export, _evaluate):
        do(begin(recipe, folder, data), folder, record)
    return folder / MODEL


def _mosaic(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    def work(shown: Bar) -> None:
        if any(p.crs is None for p in find(recipe.imagery)):
            shown.say("mosaic: left out, as some imagery has no CRS")
            (folder / "mosaic").mkdir(exist_ok=True)
            write_json(folder / "mosaic" / "left_out.json", "some imagery has no CRS")
            return
        mosaic(recipe.imagery, folder / "mosaic")

    return Step("mosaic", {"data": _images(data)}, ("mosaic",), work)


def _labels(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    def work(shown: Bar) -> None:
        for line in label(recipe.imagery, recipe.labels, folder / "labels", shown.say).lines():
            shown.say(line)

    settings = recipe.labels.model_dump(mode="json", exclude={"source"})
    return Step("labels", {"data": data, "settings": settings}, ("labels",), work)


def _chips(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    def work(shown: Bar) -> None:
        cut(recipe.imagery, folder / "labels", recipe.chips, folder / "chips",
            say=shown.say, advance=shown.to)  # fmt: skip

    inputs = {
        "data": _images(data),
        "labels": digests(folder, ["labels"]),
        "settings": recipe.chips.model_dump(mode="json"),
    }
    return Step("chips", inputs, ("chips",), work)


def _split(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    def work(shown: Bar) -> None:
        found = split_chips(read_manifest(folder / "chips"), recipe.split)
        found.write(folder / "split.json")
        sides = found.sides
        shown.say(
            f"{len(found.places)} {found.unit}s; chips: {len(sides.train):,} to learn from, "
            f"{len(sides.validation):,} to choose by, {len(sides.test):,} to test, "
            f"{len(sides.dropped):,} too near to another side"
        )

    inputs = {
        "chips": digests(folder, ["chips"]),
        "settings": recipe.split.model_dump(mode="json"),
    }
    return Step("split", inputs, ("split.json",), work)


def _fit(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    preset, county = recipe.fit.chosen(), recipe.fit.county

    def work(shown: Bar) -> None:
        for half in (folder / "fit").glob(".*.pt.*"):  # of a killed process
            half.unlink()
        first = Checkpoint.load(recipe.fit.begin) if recipe.fit.begin else None
        own = read_own(
            folder / "chips",
            folder / "split.json",
            county=county,
            preset=preset,
            attribution=recipe.attribution,
        )
        fit(preset, own, folder / "fit", begin=first, say=shown.say, to=shown.to)

    inputs = {
        "chips": digests(folder, ["chips", "split.json"]),
        "settings": preset.model_dump(mode="json"),
        "begin": sha256(recipe.fit.begin) if recipe.fit.begin else "",
        "attribution": recipe.attribution,
        "county": digests(county, ["."]) if county else {},
    }
    return Step("fit", inputs, ("fit",), work, goes_on=True)


def _export(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    def work(shown: Bar) -> None:
        with whole(folder / "export") as draft:
            card = export(folder / "fit" / "best.pt", draft / MODEL)
        shown.say(f"{card.training.steps} steps, sha256 {card.sha256}")

    return Step("export", {"fit": digests(folder, ["fit/best.pt"])}, ("export",), work)


def _evaluate(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    def work(shown: Bar) -> None:
        weights = folder / MODEL
        with whole(weights) as draft:
            shutil.copyfile(folder / "export" / MODEL, draft)
        for beside in (folder / "export").glob("*.json"):
            shutil.copyfile(beside, folder / beside.name)
        split = read_split(folder / "split.json")
        manifest = read_manifest(folder / "chips")
        scenes = held_out_scenes(recipe.imagery, folder / "labels", manifest, split, split.sides)
        with whole(folder / "evaluation") as draft:
            draft.mkdir()
            if not scenes:
                shown.say("warning: no ground was kept for a test: the model has no accuracy")
                write_json(draft / "test.json", {"scenes": []})
                return
            album = Album()
            result = evaluate(
                Subject.load(weights, recipe.threads),
                scenes,
                name="test",
                role="own",
                description=f"{len(scenes)} images of the run, on the ground kept for the test.",
                command="python -m training run",
                say=shown.say,
                look=album.add,
            )
            write_evaluation(result, album, draft, "test", recipe.evaluate.pictures)
        found = result.assessment()
        write_accuracy(weights, [found])
        shown.say(f"test: {found.overall_accuracy:.4f} of {found.pixels:,} pixels")

    inputs = {
        "export": digests(folder, ["export"]),
        "labels": digests(folder, ["labels", "split.json"]),
        "settings": recipe.evaluate.model_dump(mode="json"),
    }
    outputs = (MODEL, MODEL.replace(".onnx", ".card.json"), "evaluation")
    return Step("evaluate", inputs, outputs, work)


def _data(recipe: Recipe) -> dict[str, str]:
    """SHA-256 of every file the run reads: images by name, then the labels' source."""
    found = {f"image {p.name}": sha256(p.path) for p in find(recipe.imagery)}
    source = recipe.labels.source
    if not source.is_file():
        raise StepError(f"labels: {source} is missing")
    beside = [source] if source.suffix != ".shp" else sorted(source.parent.glob(source.stem + ".*"))
    for path in beside:
        found[f"labels {path.name}"] = sha256(path)
    if recipe.labels.crosswalk.endswith(".toml"):
        found["crosswalk"] = sha256(Path(recipe.labels.crosswalk))
    return found


def _images(data: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in data.items() if name.startswith("image ")}
