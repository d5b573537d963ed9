"""What became of labels, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.legend import LEGEND
from training.scenes import CLASSES
from training.vectors import Findings

REPORT = "labels.json"


@dataclass
class Report:
    """What became of the labels. images: name → labeled pixels of the classes 1..6, for every
    image that has some. overlap_pixels: left unlabeled, as two classes claim them. crosswalk:
    its name. unknown_pixels: code → pixels of a label raster with a code the crosswalk lacks.
    """

    source: str
    crosswalk: str
    images: dict[str, list[int]] = field(default_factory=dict)
    unlabeled_images: list[str] = field(default_factory=list)
    overlap_pixels: int = 0
    features: Findings = field(default_factory=Findings)
    unknown_pixels: dict[str, int] = field(default_factory=dict)

    def counts(self) -> NDArray[np.int64]:
        """Labeled pixels of the classes 1..6: int64 (6,)."""
        total = np.zeros(CLASSES, np.int64)
        for counts in self.images.values():
            total += counts
        return total

    def lines(self) -> list[str]:
        """For people: what was found, ids in full up to 20 of a kind."""
        found = self.features
        codes = found.unknown_code.items()
        told: list[tuple[str, Sequence[object]]] = [
            ("of an unknown class (unlabeled)", [f"{i} ({c!r})" for i, c in codes]),
            ("without geometry", found.empty),
            ("invalid, repaired", found.repaired),
            ("unusable", [f"{i} ({why})" for i, why in found.unusable.items()]),
            ("outside the imagery", found.outside),
            (
                f"overlapping another class ({self.overlap_pixels:,} pixels left unlabeled)",
                [f"{a}+{b}" for a, b in (o["features"] for o in found.overlaps)],
            ),
        ]  # fmt: skip
        lines = [f"features {what}: {_some(ids)}" for what, ids in told if ids]
        lines += [
            f"code {code!r} is not in crosswalk {self.crosswalk}: {n:,} pixels left unlabeled"
            for code, n in self.unknown_pixels.items()
        ]
        names = {c.name: int(n) for c, n in zip(LEGEND.classes, self.counts(), strict=True)}
        lines.append("labeled pixels: " + ", ".join(f"{k} {n:,}" for k, n in names.items()))
        lines += [f"warning: no pixel of class {k}" for k, n in names.items() if not n]
        return lines


def _some(ids: Sequence[object]) -> str:
    shown = ", ".join(str(i) for i in ids[:20])
    return shown if len(ids) <= 20 else f"{shown} … ({len(ids)} in all, see {REPORT})"
