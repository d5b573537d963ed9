"""The accuracy figures of a card, as the Markdown page `docs/accuracy.md`."""

from __future__ import annotations

import numpy as np

from model.card import Assessment, ModelCard
from training.metrics import scores


def markdown(card: ModelCard, command: str) -> str:
    """The page: what was trained, and one section per assessment; `command` measures it again."""
    t = card.training
    pixels = ", ".join(f"{name} {count:,}" for name, count in t.pixels.items())
    lines = [
        "# Accuracy",
        "",
        f"Every figure on this page was measured on the shipped file (sha256 `{card.sha256}`) by",
        "",
        f"    {command}",
        "",
        "which runs it through `model.segment`, the code that serves, and writes this page and the",
        "card. Rows of the tables are the reference, columns the prediction, in pixels of the",
        "labels. The files and their labels are described in `../shared/data/README.md`.",
        "",
        f"Training: preset `{t.preset}`, seed {t.seed}, {t.steps:,} steps, on "
        f"{', '.join(t.places)}. Labelled pixels: {pixels}.",
        f"How the run came about stands in `training/presets/{t.preset}.toml`.",
        "",
        "| where | pixels | overall | macro F1 | mean IoU | kappa |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for assessment in card.accuracy:
        s = scores(np.array(assessment.contingency, np.int64))
        lines.append(
            f"| {assessment.name} | {assessment.pixels:,} | {_percent(s.overall)} | "
            f"{s.macro_f1:.3f} | {s.mean_iou:.3f} | {s.kappa:.3f} |"
        )
    for assessment in card.accuracy:
        lines += ["", *_section(card, assessment)]
    return "\n".join(lines) + "\n"


def _section(card: ModelCard, assessment: Assessment) -> list[str]:
    table = np.array(assessment.contingency, np.int64)
    s = scores(table)
    names = [c.name for c in card.legend.classes]
    lines = [
        f"## {assessment.name}",
        "",
        assessment.description,
        "",
        "| class | pixels | precision | recall | F1 | IoU |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for i, name in enumerate(names):
        figures = (s.precision[i], s.recall[i], s.f1[i], s.iou[i])
        lines.append(f"| {name} | {s.pixels[i]:,} | " + " | ".join(map(_percent, figures)) + " |")
    lines += [
        "",
        f"| reference \\ predicted | {' | '.join(names)} |",
        "|---" + "|--:" * len(names) + "|",
    ]
    lines += [
        f"| {name} | " + " | ".join(f"{n:,}" for n in row) + " |"
        for name, row in zip(names, table, strict=True)
    ]
    return lines


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.1f} %"
