"""From labels to a served model in one run: mosaic, labels, chips, split, fit, export,
evaluate, and the files beside the model.

A step is repeated only when its inputs or outputs have changed. Steps write files atomically, and
`fit` resumes from its last checkpoint: after a crash the run is simply started again.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from model.cores import available_cores
from training.cli.recipe import ExportSettings, Recipe
from training.cli.steps import Step, commit, digests, do, read_record
from training.config.legend import is_default
from training.data.chip_splits import read_split, share_lines_of, split_chips
from training.data.chips import cut
from training.data.custom_dataset import held_out_scenes, read_custom
from training.data.files import atomic, sha256, write_json
from training.data.imagery import find
from training.data.labels import label
from training.data.manifest import read_manifest
from training.data.mosaic import mosaic
from training.data.scenes import Scene
from training.errors import ExportError, StepError
from training.evaluate.evaluation import Subject, assess, evaluate
from training.evaluate.results import Evaluation, table_of
from training.export.artifact import write_accuracy
from training.export.deepness import write_deepness
from training.export.esri import write_esri
from training.export.int8 import SUFFIX as INT8_SUFFIX
from training.export.int8 import quantize
from training.export.onnx_export import export
from training.export.stac import item_of
from training.fit.compute import ComputeRequest
from training.fit.loop import fit
from training.network.checkpoint import FREE_TO_CHANGE
from training.network.initial import SUFFIX, read_initial
from training.progress import Bar
from training.report.evaluation import write as write_evaluation
from training.report.pictures import ScenePreviews
from training.report.tables import before_after, names_of

MODEL = "landcover.onnx"
ESRI = "esri"
DEEPNESS = "landcover.deepness.onnx"
STAC = "landcover.stac.json"
PACKAGES = ("torch", "numpy", "rasterio", "onnx", "onnxruntime", "h5py", "shapely", "pyogrio")


def perform(recipe: Recipe, folder: Path) -> Path:
    """Do all steps that are not done yet and return the model file, `landcover.onnx` in the folder.

    Raises StepError when the folder contains something else, and the errors of the steps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = read_record(folder)
    data = _data(recipe)
    record |= {
        "preset": recipe.model_dump(mode="json"),
        "fit": recipe.preset().model_dump(mode="json"),
        "data": data,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "git": commit(),
    }
    for step in (_mosaic, _labels, _chips, _split, _fit, _export, _evaluate):
        do(step(recipe, folder, data), folder, record)
    if recipe.export != ExportSettings():
        do(_files(recipe, folder, data), folder, record)
    return folder / MODEL


def _mosaic(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    def work(bar: Bar) -> None:
        if any(p.crs is None for p in find(recipe.imagery, len(recipe.bands))):
            bar.log("mosaic: skipped, as some imagery has no CRS")
            (folder / "mosaic").mkdir(exist_ok=True)
            write_json(folder / "mosaic" / "skipped.json", "some imagery has no CRS")
            return
        mosaic(recipe.imagery, folder / "mosaic", len(recipe.bands))

    return Step("mosaic", {"data": _images(data)}, ("mosaic",), work)


def _labels(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    def work(bar: Bar) -> None:
        report = label(
            recipe.imagery,
            recipe.labels,
            folder / "labels",
            bar.log,
            legend=recipe.legend,
            bands=len(recipe.bands),
        )
        for line in report.lines():
            bar.log(line)

    settings = recipe.labels.model_dump(mode="json", exclude={"source", "corrections"})
    return Step("labels", {"data": data, "settings": settings, **_kind(recipe)}, ("labels",), work)


def _chips(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    def work(bar: Bar) -> None:
        cut(
            recipe.imagery,
            folder / "labels",
            recipe.chips,
            folder / "chips",
            legend=recipe.legend,
            bands=recipe.bands,
            log=bar.log,
            progress=bar.update,
        )

    inputs = {
        "data": _images(data),
        "labels": digests(folder, ["labels"]),
        "settings": recipe.chips.model_dump(mode="json"),
        **_kind(recipe),
    }
    return Step("chips", inputs, ("chips",), work)


def _split(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    def work(bar: Bar) -> None:
        manifest = read_manifest(folder / "chips")
        split = split_chips(manifest, recipe.split)
        split.write(folder / "split.json")
        bar.log(f"{len(split.places)} {split.unit}s; {split.sides.summary()}")
        for line in share_lines_of(manifest, split.sides):
            bar.log(line)

    inputs = {
        "chips": digests(folder, ["chips"]),
        "settings": recipe.split.model_dump(mode="json"),
    }
    return Step("split", inputs, ("split.json",), work)


def _fit(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    preset, county = recipe.preset(), recipe.fit.county

    def work(bar: Bar) -> None:
        first = read_initial(recipe.fit.init_from) if recipe.fit.init_from else None
        own = read_custom(
            folder / "chips",
            folder / "split.json",
            county=county,
            preset=preset,
        )
        fit(
            preset,
            own,
            folder / "fit",
            init_from=first,
            request=ComputeRequest(recipe.device, recipe.threads),
            tensorboard=recipe.tensorboard,
            log=bar.log,
            progress=bar.update,
        )

    settings = preset.model_dump(mode="json")
    fixed = {
        "chips": digests(folder, ["chips", "split.json"]),
        "init_from": sha256(recipe.fit.init_from) if recipe.fit.init_from else "",
        "county": digests(county, ["."]) if county else {},
        **{key: value for key, value in settings.items() if key not in FREE_TO_CHANGE},
    }
    free = {key: settings[key] for key in sorted(FREE_TO_CHANGE)}
    return Step("fit", fixed | free, ("fit",), work, continues=fixed, steps=preset.steps)


def _export(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    def work(bar: Bar) -> None:
        with atomic(folder / "export") as draft:
            card = export(folder / "fit" / "best.pt", draft / MODEL, attribution=recipe.attribution)
        bar.log(f"{card.training.steps} steps, sha256 {card.sha256}")

    inputs = {"fit": digests(folder, ["fit/best.pt"]), "attribution": recipe.attribution}
    return Step("export", inputs, ("export",), work)


def _evaluate(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    def work(bar: Bar) -> None:
        weights = folder / MODEL
        with atomic(weights) as draft:
            shutil.copyfile(folder / "export" / MODEL, draft)
        for beside in (folder / "export").glob("*.json"):
            shutil.copyfile(beside, folder / beside.name)
        split = read_split(folder / "split.json")
        manifest = read_manifest(folder / "chips")
        scenes = held_out_scenes(recipe.imagery, folder / "labels", manifest, split, split.sides)
        with atomic(folder / "evaluation") as draft:
            draft.mkdir()
            if not scenes:
                bar.log("warning: there is no test ground: the model has no accuracy")
                write_json(draft / "test.json", {"scenes": []})
                return
            previews = ScenePreviews()
            result = evaluate(
                Subject.load(weights, recipe.threads or available_cores()),
                scenes,
                name="test",
                role="own",
                description=f"{len(scenes)} images of the run, on the ground of the test.",
                command="python -m training run",
                log=bar.log,
                on_scene=previews.add,
            )
            write_evaluation(result, previews, draft, "test", recipe.evaluate.pictures)
            _compare(recipe, scenes, result, draft, bar)
        accuracy = result.assessment()
        write_accuracy(weights, [accuracy])
        bar.log(f"test: {accuracy.overall_accuracy:.4f} of {accuracy.pixels:,} pixels")

    inputs = {
        "export": digests(folder, ["export"]),
        "labels": digests(folder, ["labels", "split.json"]),
        "settings": recipe.evaluate.model_dump(mode="json"),
    }
    outputs = (MODEL, MODEL.replace(".onnx", ".card.json"), "evaluation")
    return Step("evaluate", inputs, outputs, work)


def _data(recipe: Recipe) -> dict[str, str]:
    """Return the SHA-256 of every file that the run reads: images by name, then the labels."""
    digest_of = {f"image {p.name}": sha256(p.path) for p in find(recipe.imagery, len(recipe.bands))}
    for source in (recipe.labels.source, *recipe.labels.corrections):
        if not source.exists():
            raise StepError(f"labels: {source} is missing")
        for path in _files_of(source):
            digest_of[f"labels {path.name}"] = sha256(path)
    if recipe.labels.crosswalk.endswith(".toml"):
        digest_of["crosswalk"] = sha256(Path(recipe.labels.crosswalk))
    return digest_of


def _files(recipe: Recipe, folder: Path, data: dict[str, str]) -> Step:
    """Make the other files of the model, which carry its accuracy, too."""
    weights, wanted = folder / MODEL, recipe.export
    small = MODEL.replace(".onnx", INT8_SUFFIX)
    outputs = []
    if wanted.int8:
        outputs += [small, small.replace(".onnx", ".card.json")]
    if wanted.esri:
        outputs.append(ESRI)
    if wanted.deepness:
        outputs.append(DEEPNESS)
    if wanted.stac:
        outputs.append(STAC)

    def work(bar: Bar) -> None:
        if wanted.int8:
            own = read_custom(folder / "chips", folder / "split.json", preset=recipe.preset())
            scenes = own.validation.get("real", ())
            try:
                card, _ = quantize(weights, own.train, scenes, folder / small, bar.log)
                bar.log(f"{small}: sha256 {card.sha256}")
            except ExportError as error:
                bar.log(f"warning: no {small}: {error}")
        if wanted.esri:
            with atomic(folder / ESRI) as draft:
                write_esri(weights, draft)
        if wanted.deepness:
            write_deepness(weights, folder / DEEPNESS)
        if wanted.stac:
            write_json(folder / STAC, item_of(weights))

    inputs = {"model": digests(folder, [MODEL]), "settings": wanted.model_dump(mode="json")}
    if wanted.int8:
        inputs |= {"chips": digests(folder, ["chips", "split.json"])}
    return Step("files", inputs, tuple(outputs), work)


def _compare(
    recipe: Recipe, scenes: Sequence[Scene], after: Evaluation, folder: Path, bar: Bar
) -> None:
    """Write the accuracy on the test of the model file that the run started from, and of the run's,
    where both know the same classes."""
    initial = recipe.fit.init_from
    if initial is None or initial.suffix != SUFFIX:
        return
    subject = Subject.load(initial, recipe.threads or available_cores())
    if (subject.session.card.legend, subject.session.card.bands) != (recipe.legend, recipe.bands):
        return
    before = table_of(assess(subject.session, scenes, lambda line: None))
    text = str(before_after(before, after.table, names_of(recipe.legend)))
    (folder / "before_after.md").write_text(text + "\n", encoding="utf-8")
    bar.log(f"on the test's ground, before and after:\n{text}")


def _files_of(source: Path) -> list[Path]:
    """Return the files of a source of labels: a Shapefile and a file geodatabase have several."""
    if source.is_dir():
        return sorted(p for p in source.rglob("*") if p.is_file() and p.suffix != ".lock")
    if source.suffix == ".shp":
        return sorted(source.parent.glob(source.stem + ".*"))
    return [source]


def _kind(recipe: Recipe) -> dict[str, object]:
    """Return legend and bands, as inputs of a step, where they are not the default ones."""
    if is_default(recipe.legend, recipe.bands):
        return {}
    return {"legend": recipe.legend.model_dump(mode="json"), "bands": recipe.bands}


def _images(data: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in data.items() if name.startswith("image ")}
