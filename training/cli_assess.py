"""The commands that measure a model file: evaluate, years, lowres, accuracy."""

# ruff: noqa: PLC0415 (--help does not wait for onnxruntime and rasterio)

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from training.assessment import Measured, Role
    from training.scenes import Scene
    from training.selection import Selection

CHIPS = Path("../shared/data/labels/chips.csv")
MULTI_YEAR = Path("../shared/data/naip/multi_year")
WEIGHTS = Path("model/weights/landcover.onnx")

Weights = Annotated[Path, typer.Option(help="the model file")]
Chips = Annotated[Path, typer.Option(help="list of labeled chips (chips.csv)")]
Places = Annotated[list[str] | None, typer.Option("--place", help="only this place; repeatable")]
Scenes = Annotated[
    Path | None, typer.Option(help="file with a scene's name in every line, in place of places")
]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `python -m training`."""
    for command in (evaluate, years, lowres, accuracy):
        app.command()(command)


def evaluate(
    *,
    weights: Weights = WEIGHTS,
    preset: Annotated[str, typer.Option(help="whose held-out places are assessed")] = "default",
    chips: Chips = CHIPS,
    county: Annotated[
        Path | None, typer.Option(help="folder of Demo County: its held-out core, too")
    ] = None,
    place: Places = None,
    scenes: Scenes = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="your own imagery; repeatable, with --label")
    ] = None,
    label: Annotated[
        list[Path] | None, typer.Option(help="its label raster, 1..6, 0 unlabeled; repeatable")
    ] = None,
    role: Annotated[
        str, typer.Option(help="what it is evidence of: unseen, region, county, own")
    ] = "",
    name: Annotated[str, typer.Option(help="name of the files written")] = "",
    out: Annotated[Path, typer.Option(help="folder for .json, .md and .html")] = Path(
        "runs/evaluation"
    ),
    pictures: Annotated[
        int, typer.Option(min=0, help="scenes shown on the page, worst first")
    ] = 24,
    into_card: Annotated[
        bool, typer.Option("--into-card", help="write the figures into the model file, too")
    ] = False,
    threads: Threads = 2,
) -> None:
    """Measure the model file on whole scenes: JSON, Markdown and a page with pictures."""
    from training.evaluate import Subject, write_accuracy
    from training.evaluate import evaluate as measure
    from training.report.evaluation import write
    from training.report.html import Album

    subject = Subject.load(weights, threads)
    found = []
    for chosen in _selections(preset, chips, county, place, scenes, image, label, role):
        title = name or chosen.name
        album = Album()
        result = measure(
            subject,
            chosen.scenes,
            name=title,
            role=chosen.role,
            description=chosen.description,
            command=_command(),
            say=typer.echo,
            look=album.add,
        )
        write(result, album, out, title, pictures)
        card = result.assessment()
        typer.echo(f"{title}: {card.overall_accuracy:.4f} of {card.pixels:,} pixels")
        typer.echo(f"{out / title}.json, .md, .html")
        found.append(card)
    if into_card:
        typer.echo(f"{weights}: sha256 {write_accuracy(weights, found).sha256}")


def years(
    *,
    weights: Weights = WEIGHTS,
    chips: Chips = CHIPS,
    folder: Annotated[Path, typer.Option(help="images of other years of the chips")] = MULTI_YEAR,
    place: Places = None,
    scenes: Scenes = None,
    description: Annotated[
        str, typer.Option(help="what the grounds are, in words, for the page")
    ] = "",
    out: Annotated[Path, typer.Option(help="the JSON to write")] = Path("runs/years.json"),
    threads: Threads = 2,
) -> None:
    """Measure the model file on the same ground in several years."""
    from training.evaluate import Subject
    from training.report.tables import between_years, own_year
    from training.years import years_of

    result = years_of(
        Subject.load(weights, threads),
        _chips(chips, place, scenes),
        folder,
        command=_command(),
        description=description,
        say=typer.echo,
    )
    result.write(out)
    held = between_years(result.where_labels_hold)
    typer.echo("\n".join(["", *own_year(result), "", *held, "", str(out)]))


def lowres(
    *,
    weights: Weights = WEIGHTS,
    chips: Chips = CHIPS,
    place: Places = None,
    out: Annotated[Path, typer.Option(help="the JSON to write")] = Path("runs/lowres.json"),
    threads: Threads = 2,
) -> None:
    """Measure how the model file reads imagery at 2, 4 and 8 m against its own 1 m result."""
    from training.evaluate import Subject
    from training.lowres import lowres_of
    from training.report.tables import by_resolution, classes_by_resolution

    result = lowres_of(
        Subject.load(weights, threads), _chips(chips, place), command=_command(), say=typer.echo
    )
    result.write(out)
    typer.echo("\n".join(["", *by_resolution(result), "", *classes_by_resolution(result), ""]))
    typer.echo(str(out))


def accuracy(
    results: Annotated[list[Path], typer.Argument(help="what the commands above wrote (.json)")],
    *,
    weights: Annotated[Path, typer.Option(help="the shipped model file")] = WEIGHTS,
    out: Annotated[Path, typer.Option(help="the page to write")] = Path("docs/accuracy.md"),
    into_card: Annotated[
        bool, typer.Option("--into-card", help="write the pooled tables into the model file first")
    ] = False,
) -> None:
    """Write docs/accuracy.md from results; the folds of a cross-validation are pooled."""
    from training.evaluate import Subject, write_accuracy
    from training.report.page import collect

    measured = [_read(path) for path in results]
    subject = Subject.load(weights)
    page = collect(subject.session.metadata, subject.facts.graph, measured)
    if into_card:
        page.card = write_accuracy(weights, [e.assessment() for e in page.evaluations.values()])
    out.write_text(page.markdown(), encoding="utf-8")
    for goal in page.goals():
        typer.echo(f"{'met   ' if goal.met else 'MISSED'} {goal.what}: {goal.found} ({goal.goal})")
    typer.echo(str(out))


def _selections(
    preset: str,
    chips: Path,
    county: Path | None,
    places: list[str] | None,
    scenes: Path | None,
    images: list[Path] | None,
    labels: list[Path] | None,
    role: str,
) -> list[Selection]:
    from dataclasses import replace

    from training.config import load_preset
    from training.errors import AssessmentError
    from training.report.page import TITLES
    from training.selection import held_out, of_names, of_pairs, of_places

    _one_of({"--place": places, "--scenes": scenes, "--image": images})
    if role and role not in TITLES:
        raise AssessmentError(f"role {role!r} is not one of {', '.join(TITLES)}")
    if places:
        found = [of_places(chips, places)]
    elif scenes:
        found = [of_names(chips, _names(scenes))]
    elif images or labels:
        found = [of_pairs(images or [], labels or [])]
    else:
        found = held_out(load_preset(preset), chips, county)
    chosen: Role | None = next((r for r in TITLES if r == role), None)
    return [replace(s, role=chosen) for s in found] if chosen else found


def _chips(index: Path, places: list[str] | None, names: Path | None = None) -> tuple[Scene, ...]:
    from training.scenes import read_chips
    from training.selection import of_names, of_places

    _one_of({"--place": places, "--scenes": names})
    if names:
        return of_names(index, _names(names)).scenes
    return of_places(index, places).scenes if places else tuple(read_chips(index))


def _one_of(ways: dict[str, object]) -> None:
    """Refuses two ways of choosing scenes at once."""
    from training.errors import AssessmentError

    if len(given := [way for way, value in ways.items() if value]) > 1:
        raise AssessmentError(f"{given[0]} and {given[1]} exclude each other")


def _names(path: Path) -> list[str]:
    from training.errors import AssessmentError

    try:
        return path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise AssessmentError(f"{path}: {error.strerror}") from error


def _read(path: Path) -> Measured:
    from training.assessment import Evaluation
    from training.errors import AssessmentError
    from training.lowres import LowRes
    from training.years import Years

    kinds: dict[str, type[Measured]] = {
        "evaluation": Evaluation,
        "years": Years,
        "lowres": LowRes,
    }
    try:
        kind = json.loads(path.read_bytes()).get("kind")
    except (OSError, ValueError, AttributeError) as error:
        raise AssessmentError(f"{path} is no result: {error}") from error
    if kind not in kinds:
        raise AssessmentError(f"{path} is no result: kind {kind!r}, one of {sorted(kinds)} needed")
    return kinds[kind].read(path)


def _command() -> str:
    return "python -m training " + shlex.join(sys.argv[1:])
