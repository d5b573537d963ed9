"""The commands that measure a model file: evaluate, years, lowres, accuracy."""

# ruff: noqa: PLC0415 (--help does not wait for onnxruntime and rasterio)

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.cli.options import WEIGHTS, Chips, Threads, Weights, command_line

if TYPE_CHECKING:
    from model.card import ModelCard
    from training.data.scenes import Scene
    from training.evaluate.results import Measured, Role
    from training.evaluate.selection import Selection

MEASURED = Path("docs/measured")

Places = Annotated[list[str] | None, typer.Option("--place", help="only this place; repeatable")]
Scenes = Annotated[
    Path | None, typer.Option(help="file with one scene name per line, instead of places")
]


def evaluate(
    *,
    weights: Weights = WEIGHTS,
    preset: Annotated[str, typer.Option(help="preset whose held-out places are used")] = "default",
    chips: Annotated[Path | None, typer.Option(help="list of labeled chips (chips.csv)")] = None,
    county: Annotated[
        Path | None, typer.Option(help="folder of Demo County: its held-out core, too")
    ] = None,
    place: Places = None,
    scenes: Scenes = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="your own imagery; repeatable, with --label")
    ] = None,
    label: Annotated[
        list[Path] | None, typer.Option(help="its label raster, values of the legend, 0 unlabeled")
    ] = None,
    role: Annotated[str, typer.Option(help="kind of evidence: unseen, region, county, own")] = "",
    name: Annotated[str, typer.Option(help="name of the files written")] = "",
    out: Annotated[Path, typer.Option(help="folder for .json, .md and .html")] = Path(
        "runs/evaluation"
    ),
    pictures: Annotated[
        int, typer.Option(min=0, help="scenes shown on the page, least accurate first")
    ] = 24,
    into_card: Annotated[
        bool, typer.Option("--into-card", help="write the figures into the model file, too")
    ] = False,
    threads: Threads = 2,
) -> None:
    """Measure the model file on whole scenes: JSON, Markdown and a page with pictures."""
    from training.evaluate.evaluation import Subject
    from training.evaluate.evaluation import evaluate as measure
    from training.export.artifact import write_accuracy
    from training.report.evaluation import write
    from training.report.pictures import ScenePreviews

    subject = Subject.load(weights, threads)
    cards = []
    card = subject.session.card
    for selection in _selections(card, preset, chips, county, place, scenes, image, label, role):
        title = name or selection.name
        previews = ScenePreviews()
        result = measure(
            subject,
            selection.scenes,
            name=title,
            role=selection.role,
            description=selection.description,
            command=command_line(),
            log=typer.echo,
            on_scene=previews.add,
        )
        write(result, previews, out, title, pictures)
        assessment = result.assessment()
        typer.echo(f"{title}: {assessment.overall_accuracy:.4f} of {assessment.pixels:,} pixels")
        typer.echo(f"{out / title}.json, .md, .html")
        cards.append(assessment)
    if into_card:
        typer.echo(f"{weights}: sha256 {write_accuracy(weights, cards).sha256}")


def years(
    *,
    weights: Weights = WEIGHTS,
    chips: Chips,
    other_years: Annotated[
        Path, typer.Option("--other-years", "--folder", help="images of the chips' other years")
    ],
    place: Places = None,
    scenes: Scenes = None,
    description: Annotated[str, typer.Option(help="what the sites are, for the page")] = "",
    out: Annotated[Path, typer.Option(help="the JSON to write")] = Path("runs/years.json"),
    threads: Threads = 2,
) -> None:
    """Measure the model file on the same ground in several years."""
    from training.evaluate.evaluation import Subject
    from training.evaluate.years import years_of
    from training.report.tables import between_years, by_label_year

    result = years_of(
        Subject.load(weights, threads),
        _chips(chips, place, scenes),
        other_years,
        command=command_line(),
        description=description,
        log=typer.echo,
    )
    result.write(out)
    agreement = between_years(result.where_labels_hold)
    typer.echo(f"\n{by_label_year(result)}\n\n{agreement}\n\n{out}")


def lowres(
    *,
    weights: Weights = WEIGHTS,
    chips: Chips,
    place: Places = None,
    out: Annotated[Path, typer.Option(help="the JSON to write")] = Path("runs/lowres.json"),
    threads: Threads = 2,
) -> None:
    """Compare the model file's classes at 2, 4 and 8 m with its own classes at 1 m."""
    from training.evaluate.evaluation import Subject
    from training.evaluate.lowres import lowres_of
    from training.report.tables import by_resolution, classes_by_resolution

    result = lowres_of(
        Subject.load(weights, threads),
        _chips(chips, place),
        command=command_line(),
        log=typer.echo,
    )
    result.write(out)
    typer.echo(f"\n{by_resolution(result)}\n\n{classes_by_resolution(result)}\n\n{out}")


def accuracy(
    results: Annotated[
        list[Path] | None, typer.Argument(help="results (.json); default: all of docs/measured")
    ] = None,
    *,
    weights: Annotated[Path, typer.Option(help="the shipped model file")] = WEIGHTS,
    out: Annotated[Path, typer.Option(help="the page to write")] = Path("docs/accuracy.md"),
    readme: Annotated[
        Path | None, typer.Option(help="page whose accuracy paragraph is written, too")
    ] = None,
    into_card: Annotated[
        bool, typer.Option("--into-card", help="write the pooled tables into the model file first")
    ] = False,
) -> None:
    """Write docs/accuracy.md from results; the folds of a cross-validation are pooled."""
    from training.evaluate.evaluation import Subject
    from training.export.artifact import write_accuracy
    from training.report.accuracy import collect, write_docs

    measured = [read_result(path) for path in results or sorted(MEASURED.glob("*.json"))]
    fast = [] if results else [read_result(p) for p in sorted((MEASURED / "fast").glob("*.json"))]
    subject = Subject.load(weights)
    page = collect(subject.session.metadata, subject.facts.graph, measured, fast)
    if into_card:
        page.card = write_accuracy(weights, [e.assessment() for e in page.evaluations.values()])
    write_docs(page, out, readme)
    typer.echo(str(out))


def _selections(
    card: ModelCard,
    preset: str,
    chips: Path | None,
    county: Path | None,
    places: list[str] | None,
    scenes: Path | None,
    images: list[Path] | None,
    labels: list[Path] | None,
    role: str,
) -> list[Selection]:
    from training.config import load_preset
    from training.errors import AssessmentError
    from training.evaluate.selection import held_out, of_names, of_pairs, of_places
    from training.report.accuracy import TITLES

    _one_of({"--place": places, "--scenes": scenes, "--image": images})
    if role and role not in TITLES:
        raise AssessmentError(f"role {role!r} is not one of {', '.join(TITLES)}")
    if (places or scenes) and chips is None:
        raise AssessmentError("--place and --scenes name labeled chips: give their list, --chips")
    if places and chips:
        selections = [of_places(chips, places, card=card)]
    elif scenes and chips:
        selections = [of_names(chips, _names(scenes), card=card)]
    elif images or labels:
        selections = [of_pairs(images or [], labels or [], card)]
    else:
        kept = load_preset(preset).model_copy(update={"legend": card.legend, "bands": card.bands})
        selections = held_out(kept, chips, county)
    kind: Role | None = next((r for r in TITLES if r == role), None)
    return [replace(s, role=kind) for s in selections] if kind else selections


def _chips(index: Path, places: list[str] | None, names: Path | None = None) -> tuple[Scene, ...]:
    from training.data.scenes import read_chips
    from training.evaluate.selection import of_names, of_places

    _one_of({"--place": places, "--scenes": names})
    if names:
        return of_names(index, _names(names)).scenes
    return of_places(index, places).scenes if places else tuple(read_chips(index))


def _one_of(ways: dict[str, object]) -> None:
    """Raise AssessmentError when scenes are selected in two ways at once."""
    from training.errors import AssessmentError

    if len(given := [way for way, value in ways.items() if value]) > 1:
        raise AssessmentError(f"{given[0]} and {given[1]} exclude each other")


def _names(path: Path) -> list[str]:
    from training.errors import AssessmentError

    try:
        return path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise AssessmentError(f"{path}: {error.strerror}") from error


def read_result(path: Path) -> Measured:
    """Read a result of the commands above. AssessmentError when the file is none."""
    from training.errors import AssessmentError
    from training.evaluate.lowres import LowRes
    from training.evaluate.results import Evaluation
    from training.evaluate.years import Years

    kinds: dict[str, type[Measured]] = {"evaluation": Evaluation, "years": Years, "lowres": LowRes}
    try:
        kind = json.loads(path.read_bytes()).get("kind")
    except (OSError, ValueError, AttributeError) as error:
        raise AssessmentError(f"{path} is no result: {error}") from error
    if kind not in kinds:
        raise AssessmentError(f"{path} is no result: kind {kind!r}, one of {sorted(kinds)} needed")
    return kinds[kind].read(path)
