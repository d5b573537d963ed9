"""Cross-validation: every place judged by a net that never saw it; every piece of ground of the
known places by one that saw its surroundings only.

A fold is fit → export → evaluate, on the exported file, in a folder of its own; a finished fold is
not run again, a cut-off one goes on where it was. What half of the folds may all learn from can be
learned once for them (`shared`): each of these folds then goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.assessment import Measured, Role
from training.checkpoint import Checkpoint
from training.config import Preset
from training.data import Data, read_made, with_other_years
from training.errors import AssessmentError, SplitError
from training.evaluate import Subject, evaluate
from training.export import export
from training.fit import fit
from training.progress import Say, echo
from training.scenes import Scene, read_chips
from training.splits import Split, group_by_ground
from training.starts import begin_path, check_begin
from training.years import years_of


@dataclass(frozen=True)
class Fold:
    """Scenes to learn from and scenes to judge by; they share no ground, in any year."""

    name: str
    role: Role
    train: tuple[Scene, ...]
    test: tuple[Scene, ...]


def by_place(scenes: Sequence[Scene]) -> list[Fold]:
    """One fold for each place, which is judged whole. SplitError when there is only one."""
    places = sorted({s.place for s in scenes})
    if len(places) < 2:
        raise SplitError(f"only the place {places} is there: nothing is left to learn from")
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
    """`folds` folds over the separate pieces of ground of every place.

    Pieces within `margin` meters of each other, whatever their years, stay together; a place with
    fewer pieces than folds is learned from in all of them and judged in none.
    """
    tests: list[list[Scene]] = [[] for _ in range(folds)]
    for place in sorted({s.place for s in scenes}):
        groups = group_by_ground([s for s in scenes if s.place == place], margin)
        if len(groups) < folds:
            continue
        order = np.random.default_rng([seed, *place.encode()]).permutation(len(groups))
        for turn, index in enumerate(order):
            tests[turn % folds].extend(groups[index])
    if not all(tests):
        raise SplitError(f"no place has {folds} separate pieces of ground")
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
    """The folds as two groups of about as many labeled pixels, largest first in the order
    1 2 2 1; fewer than four folds have nothing to share and are no group.
    """
    if len(folds) < 4:
        return []
    order = sorted(folds, key=lambda f: -sum(int(s.counts().sum()) for s in f.test))
    return [
        tuple(f for i, f in enumerate(order) if (i % 4 in (0, 3)) is first)
        for first in (True, False)
    ]


def common(group: Sequence[Fold]) -> tuple[Scene, ...]:
    """The scenes that every fold of the group learns from: none of them is judged in any."""
    judged = {(s.place, s.name) for fold in group for s in fold.test}
    return tuple(s for s in group[0].train if (s.place, s.name) not in judged)


def crossvalidate(
    preset: Preset,
    chips: Path,
    run: Path,
    *,
    ground_folds: int,
    shared: Preset | None = None,
    begin: Path | None,
    other_years: Path | None,
    county: Path | None = None,
    city: Path | None = None,
    command: str,
    threads: int = 2,
    say: Say = echo,
) -> list[Path]:
    """Runs every fold into `run` and returns the results, JSON files for `accuracy`.

    `ground_folds` = 0: by place; else that many folds by ground. `begin`: a checkpoint that saw
    none of the chips' places (Demo County), or the folder of a former cross-validation by the
    same folds, which each goes on from; AssessmentError otherwise. `shared`: the preset of the
    runs that half of the folds begin from, each on what none of them is judged by.
    `county`, `city`: the folders of Demo County and City, from which a share of the crops comes.
    """
    scenes = read_chips(chips, without=preset.left_out)
    folds = (
        by_ground(scenes, ground_folds, preset.margin_m, preset.seed)
        if ground_folds
        else by_place(scenes)
    )
    groups = {f"half{n}": g for n, g in enumerate(halves(folds) if shared else [], 1)}
    if begin is not None:
        roots = groups or {fold.name: (fold,) for fold in folds}
        check_begin(begin, {name: [s for f in g for s in f.test] for name, g in roots.items()})

    made = read_made(preset, county, city)
    if made is not None:
        made = Split(made.train, (), ())

    def start(name: str) -> Checkpoint | None:
        return Checkpoint.load(begin_path(begin, name)) if begin is not None else None

    def learn(
        train: tuple[Scene, ...], folder: Path, chosen: Preset, first: Checkpoint | None
    ) -> None:
        split = Split(train, (), ())
        if other_years is not None:
            split = with_other_years(split, other_years, preset)
        fit(chosen, Data(split, made), folder, begin=first, say=say)

    halved = dict[str, Checkpoint]()
    for name, group in groups.items():
        folder = run / name
        train = common(group)
        say(f"for {', '.join(f.name for f in group)}: {len(train)} scenes to learn from")
        if any(not (run / f.name / "model.onnx").is_file() for f in group):
            learn(train, folder, shared or preset, start(name))
            halved |= dict.fromkeys((f.name for f in group), Checkpoint.load(folder / "last.pt"))
    results = []
    for fold in folds:
        folder = run / fold.name
        say(f"fold {fold.name}: {len(fold.train)} scenes to learn from, {len(fold.test)} to judge")
        if not (folder / "model.onnx").is_file():
            learn(fold.train, folder, preset, halved.get(fold.name) or start(fold.name))
            export(folder / "last.pt", folder / "model.onnx")
        results += _measure(fold, folder, other_years, command, threads, say)
    return results


def _measure(
    fold: Fold, folder: Path, other_years: Path | None, command: str, threads: int, say: Say
) -> list[Path]:
    subject = Subject.load(folder / "model.onnx", threads)
    described = {
        "unseen": "Each place by a net that was not trained on it, in any year",
        "region": "Each piece of ground by a net trained on other ground of the same places",
    }[fold.role]
    found: dict[str, Measured] = {
        "evaluation": evaluate(
            subject,
            fold.test,
            name="unseen_places" if fold.role == "unseen" else "unseen_ground",
            role=fold.role,
            description=f"{described}; no checkpoint was chosen by it.",
            command=command,
            say=say,
        )
    }
    if fold.role == "unseen" and other_years is not None:
        try:
            found["years"] = years_of(subject, fold.test, other_years, command=command, say=say)
        except AssessmentError as error:
            say(f"no years: {error}")
    paths = []
    for kind, result in found.items():
        paths.append(folder / f"{kind}.json")
        result.write(paths[-1])
    return paths
