"""Cross-validation: each place tested with a model trained without it, or each piece of ground of
the known places with a model trained on the rest.

A fold is fit → export → evaluate, on the exported file, in a folder of its own; a finished fold is
not run again, an interrupted one is resumed. Data that half of the folds have in common can be
trained on once (`shared`), as the initial checkpoint of these folds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.card import ModelCard
from training.config import Preset
from training.data.dataset import Data, read_synthetic, with_other_years
from training.data.scenes import Scene, read_chips
from training.data.splits import Split, group_by_ground
from training.errors import AssessmentError, SplitError
from training.evaluate.evaluation import Subject, evaluate
from training.evaluate.results import Measured, Role
from training.evaluate.years import years_of
from training.export.onnx_export import export
from training.fit.compute import ComputeRequest
from training.fit.loop import fit
from training.network.checkpoint import Checkpoint
from training.network.initial import read_initial
from training.progress import Log, print_line


@dataclass(frozen=True)
class Fold:
    """Training scenes and test scenes, which share no ground in any year."""

    name: str
    role: Role
    train: tuple[Scene, ...]
    test: tuple[Scene, ...]


def by_place(scenes: Sequence[Scene]) -> list[Fold]:
    """Return one fold for each place. SplitError when there is only one."""
    places = sorted({s.place for s in scenes})
    if len(places) < 2:
        raise SplitError(f"there is only the place {places}: nothing is left to train on")
    return [
        Fold(
            place,
            "unseen",
            tuple(s for s in scenes if s.place != place),
            tuple(s for s in scenes if s.place == place),
        )
        for place in places
    ]


def by_ground(scenes: Sequence[Scene], folds: int, margin: float, seed: int) -> list[Fold]:
    """Return `folds` folds over the separate groups of scenes of every place.

    Scenes within `margin` meters of each other, whatever their years, are one group; a place with
    fewer groups than folds is in the training data of all and in no test.
    """
    tests: list[list[Scene]] = [[] for _ in range(folds)]
    for place in sorted({s.place for s in scenes}):
        groups = group_by_ground([s for s in scenes if s.place == place], margin)
        if len(groups) < folds:
            continue
        order = np.random.default_rng([seed, *place.encode()]).permutation(len(groups))
        for number, index in enumerate(order):
            tests[number % folds].extend(groups[index])
    if not all(tests):
        raise SplitError(f"no place has {folds} separate groups of scenes")
    taken = [{(s.place, s.name) for s in test} for test in tests]
    return [
        Fold(
            f"ground{number}",
            "region",
            tuple(s for s in scenes if (s.place, s.name) not in names),
            tuple(test),
        )
        for number, (test, names) in enumerate(zip(tests, taken, strict=True))
    ]


def halves(folds: Sequence[Fold]) -> list[tuple[Fold, ...]]:
    """Return the folds as two groups with about the same number of labeled pixels (largest first,
    in the order 1 2 2 1); no groups for fewer than four folds.
    """
    if len(folds) < 4:
        return []
    order = sorted(folds, key=lambda f: -sum(int(s.counts().sum()) for s in f.test))
    return [
        tuple(f for i, f in enumerate(order) if (i % 4 in (0, 3)) is first)
        for first in (True, False)
    ]


def common(group: Sequence[Fold]) -> tuple[Scene, ...]:
    """Return the training scenes that all folds of the group have in common."""
    evaluated = {(s.place, s.name) for fold in group for s in fold.test}
    return tuple(s for s in group[0].train if (s.place, s.name) not in evaluated)


def crossvalidate(
    preset: Preset,
    chips: Path,
    run: Path,
    *,
    ground_folds: int,
    shared: Preset | None = None,
    init_from: Path | None,
    other_years: Path | None,
    county: Path | None = None,
    city: Path | None = None,
    command: str,
    threads: int = 2,
    request: ComputeRequest | None = None,
    log: Log = print_line,
) -> list[Path]:
    """Run every fold in `run` and return the results, JSON files for `accuracy`.

    `ground_folds` = 0: by place; else that many folds by ground. `init_from`: a checkpoint that was
    trained on none of the chips' places (Demo County), or the folder of a previous
    cross-validation with the same folds; AssessmentError otherwise. `shared`: the preset of two
    runs, each the initial checkpoint of half of the folds, without the tests of these.
    `county`, `city`: the folders of Demo County and City, from which a share of the crops comes.
    `request`: what a run measures at its start.
    """
    scenes = read_chips(chips, without=preset.left_out)
    folds = (
        by_ground(scenes, ground_folds, preset.margin_m, preset.seed)
        if ground_folds
        else by_place(scenes)
    )
    groups = {f"half{n}": g for n, g in enumerate(halves(folds) if shared else [], 1)}
    if init_from is not None:
        roots = groups or {fold.name: (fold,) for fold in folds}
        check_init(init_from, {name: [s for f in g for s in f.test] for name, g in roots.items()})

    synthetic = read_synthetic(preset, county, city)
    if synthetic is not None:
        synthetic = Split(synthetic.train, (), ())

    def initial(name: str) -> Checkpoint | None:
        return read_initial(init_path(init_from, name)) if init_from is not None else None

    def train_on(
        train: tuple[Scene, ...], folder: Path, selected: Preset, first: Checkpoint | None
    ) -> None:
        split = Split(train, (), ())
        if other_years is not None:
            split = with_other_years(split, other_years, preset)
        fit(selected, Data(split, synthetic), folder, init_from=first, request=request, log=log)

    shared_by_fold = dict[str, Checkpoint]()
    for name, group in groups.items():
        folder = run / name
        train = common(group)
        log(f"for {', '.join(f.name for f in group)}: {len(train)} training scenes")
        if any(not (run / f.name / "model.onnx").is_file() for f in group):
            train_on(train, folder, shared or preset, initial(name))
            shared_by_fold |= dict.fromkeys(
                (f.name for f in group), Checkpoint.load(folder / "last.pt")
            )
    results = []
    for fold in folds:
        folder = run / fold.name
        log(f"fold {fold.name}: {len(fold.train)} training scenes, {len(fold.test)} in the test")
        if not (folder / "model.onnx").is_file():
            train_on(
                fold.train, folder, preset, shared_by_fold.get(fold.name) or initial(fold.name)
            )
            export(folder / "last.pt", folder / "model.onnx")
        results += _measure(fold, folder, other_years, command, threads, log)
    return results


def _measure(
    fold: Fold, folder: Path, other_years: Path | None, command: str, threads: int, log: Log
) -> list[Path]:
    subject = Subject.load(folder / "model.onnx", threads)
    described = {
        "unseen": "Each place tested with a model trained without it, in any year",
        "region": "Each piece of ground tested with a model trained on the rest of these places",
    }[fold.role]
    results: dict[str, Measured] = {
        "evaluation": evaluate(
            subject,
            fold.test,
            name="unseen_places" if fold.role == "unseen" else "unseen_ground",
            role=fold.role,
            description=f"{described}; no checkpoint was selected on it.",
            command=command,
            log=log,
        )
    }
    if fold.role == "unseen" and other_years is not None:
        try:
            results["years"] = years_of(subject, fold.test, other_years, command=command, log=log)
        except AssessmentError as error:
            log(f"no years: {error}")
    paths = []
    for kind, result in results.items():
        paths.append(folder / f"{kind}.json")
        result.write(paths[-1])
    return paths


def check_init(init_from: Path, evaluated: Mapping[str, Sequence[Scene]]) -> None:
    """Raise AssessmentError when an initial checkpoint was trained on scenes of the test.

    `init_from` is a checkpoint, or the folder of a previous cross-validation with folds of the same
    names. `evaluated`: by fold, the scenes of the test.
    """
    if init_from.is_dir():
        for fold, scenes in evaluated.items():
            names = {s.name for s in scenes}
            _check_unseen(init_path(init_from, fold), _scenes_of(init_from / fold) & names)
    else:
        card = ModelCard.parse(read_initial(init_from).card, "the card of the initial checkpoint")
        places = {s.place for scenes in evaluated.values() for s in scenes}
        _check_unseen(init_from, places.intersection(card.training.places))


def _check_unseen(path: Path, seen: Set[str]) -> None:
    if seen:
        raise AssessmentError(f"{path} was trained on {sorted(seen)}, which it would be tested on")


def init_path(init_from: Path, fold: str) -> Path:
    """Return the initial checkpoint of a fold."""
    return init_from / fold / "last.pt" if init_from.is_dir() else init_from


def _scenes_of(run: Path) -> set[str]:
    """Return the names of the labeled scenes that a run was trained on, in any year."""
    try:
        facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
        return {name.split(":")[0] for name in facts["split"]["real_train"]}
    except (OSError, ValueError, LookupError) as error:
        raise AssessmentError(f"{run} is no run to start from: {error!r}") from error
