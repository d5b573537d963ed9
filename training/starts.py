"""What a fold begins from: a run that knows none of the places, or its own of a former sitting."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from model.card import ModelCard
from training.checkpoint import Checkpoint
from training.errors import AssessmentError
from training.scenes import Scene


def check_begin(begin: Path, judged: Mapping[str, Sequence[Scene]]) -> None:
    """AssessmentError when a run to begin from has learned from what would be judged by it.

    `begin` is a checkpoint of Demo County, or the folder of a former cross-validation, whose folds
    of the same names are gone on with. `judged`: by fold, the scenes it may not have seen.
    """
    if begin.is_dir():
        for fold, scenes in judged.items():
            names = {s.name for s in scenes}
            _refuse(begin_path(begin, fold), _scenes_of(begin / fold) & names)
    else:
        card = ModelCard.parse(Checkpoint.load(begin).card, "the card of the run to begin from")
        places = {s.place for scenes in judged.values() for s in scenes}
        _refuse(begin, places.intersection(card.training.places))


def _refuse(path: Path, seen: Set[str]) -> None:
    if seen:
        raise AssessmentError(
            f"{path} has learned from {sorted(seen)}, which it would be judged by"
        )


def begin_path(begin: Path, fold: str) -> Path:
    """The checkpoint that a fold begins from."""
    return begin / fold / "last.pt" if begin.is_dir() else begin


def _scenes_of(run: Path) -> set[str]:
    """Names of the labeled scenes that a run learned from, in whichever year."""
    try:
        facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
        return {name.split(":")[0] for name in facts["split"]["real_train"]}
    except (OSError, ValueError, LookupError) as error:
        raise AssessmentError(f"{run} is no run to go on from: {error!r}") from error
