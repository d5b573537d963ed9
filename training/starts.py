"""What a fold begins from: a run that knows none of the places, or its own of a former sitting."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from model.card import ModelCard
from training.checkpoint import Checkpoint
from training.errors import AssessmentError
from training.scenes import Scene


def start_of(begin: Path, fold: str, judged: Iterable[Scene]) -> Checkpoint:
    """The checkpoint that the fold goes on from; it learnt from none of the scenes `judged`.

    `begin` is a checkpoint of Demo County, or the folder of a former cross-validation, whose fold
    of the same name is gone on with. AssessmentError when it has seen what it would be judged by.
    """
    if begin.is_dir():
        seen = _scenes_of(begin / fold) & {s.name for s in judged}
        path = begin / fold / "last.pt"
    else:
        path = begin
        card = ModelCard.parse(Checkpoint.load(path).card, "the card of the run to begin from")
        seen = set(card.training.places) & {s.place for s in judged}
    if seen:
        raise AssessmentError(f"{path} has learnt from {sorted(seen)}, which it would be judged by")
    return Checkpoint.load(path)


def _scenes_of(run: Path) -> set[str]:
    """Names of the labelled scenes that a run learnt from, in whichever year."""
    try:
        facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
        return {name.split(":")[0] for name in facts["split"]["real_train"]}
    except (OSError, ValueError, LookupError) as error:
        raise AssessmentError(f"{run} is no run to go on from: {error!r}") from error
