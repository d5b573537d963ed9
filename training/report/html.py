"""One evaluation as one self-contained HTML page: no script, no other file, pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from model.legend import LEGEND
from model.segment import Segmentation
from training.assessment import Evaluation, SceneResult, mean_of_places, table_of
from training.confidence import Reliability, intervals, reliability
from training.metrics import Counts, scores
from training.report.diagram import diagram
from training.report.pictures import RIGHT, WRONG, Pictures, pictures_of
from training.report.section import measured_by
from training.report.tables import NAMES, between, between_shares, percent, share
from training.scenes import Scene

STYLE = """
:root { color-scheme: light; --ink: #1d2733; --soft: #5b6775; --line: #dde3e9; --fill: #f5f7f9; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--ink);
  max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; background: #fff; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 40px 0 12px; }
p { max-width: 78ch; margin: 6px 0; } .soft { color: var(--soft); }
code, pre { font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { background: var(--fill); padding: 10px 12px; border-radius: 6px; overflow-x: auto; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 20px 0; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.tile b { display: block; font-size: 25px; line-height: 1.2; font-weight: 650; }
.tile span { color: var(--soft); font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: 5px 12px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { font-weight: 600; color: var(--soft); } th:first-child, td:first-child { text-align: left; }
.swatch { display: inline-block; width: 12px; height: 12px; border: 1px solid #0003;
  border-radius: 3px; margin-right: 7px; vertical-align: -1px; }
.two { display: flex; flex-wrap: wrap; gap: 32px; align-items: flex-start; }
.scene { border-top: 1px solid var(--line); padding: 14px 0 18px; }
.scene h3 { font-size: 15px; margin: 0 0 8px; font-weight: 600; }
.scene h3 span { font-weight: 400; color: var(--soft); margin-left: 10px; }
.strip { display: grid; grid-template-columns: repeat(4, 1fr); gap: 10px; }
figure { margin: 0; } figcaption { font-size: 12.5px; color: var(--soft); }
.strip img { width: 100%; display: block; image-rendering: pixelated; background: #fff;
  border: 1px solid var(--line); }
.key { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 8px 0 16px; font-size: 13.5px; }
"""


class Album:
    """The pictures of an evaluation's scenes, taken while it runs."""

    def __init__(self) -> None:
        self.pages: dict[tuple[str, str], Pictures] = {}

    def add(self, scene: Scene, answer: Segmentation) -> None:
        """Takes the pictures of a scene (see evaluate.Look)."""
        self.pages[scene.place, scene.name] = pictures_of(scene, answer)


def page(found: Evaluation, album: Album, shown: int = 24) -> str:
    """The page; the `shown` scenes of lowest overall accuracy with their pictures, worst first."""
    s, known, curve = scores(found.table), intervals(found), reliability(found)
    ranked = worst_first(found.scenes)
    tiles = [
        (percent(s.overall), "overall accuracy" + between(known.overall)),
        (percent(mean_of_places(found)), "mean of places" + between(known.mean_of_places)),
        (share(s.macro_f1), "macro F1" + between_shares(known.macro_f1)),
        (share(s.kappa), "kappa" + between_shares(known.kappa)),
        (percent(curve.error), "calibration error (ECE)"),
        (f"{s.pixels.sum():,}", f"labeled pixels, {len(found.scenes)} scenes"),
    ]
    title = f"Accuracy: {escape(found.name)}"
    lead, *rest = measured_by(found)
    commands = "\n".join(line.strip() for line in rest if line)
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{STYLE}</style></head><body>",
            f"<h1>{title}</h1>",
            f"<p>{escape(found.description)}</p>",
            f'<p class="soft">{escape(lead.replace("`", ""))}</p>',
            f"<pre>{escape(commands)}</pre>",
            '<div class="tiles">',
            *(f'<div class="tile"><b>{a}</b><span>{escape(b)}</span></div>' for a, b in tiles),
            "</div>",
            f'<p class="soft">In brackets: {escape(known.method)}.</p>',
            "<h2>By class</h2>",
            _classes(found, known.f1),
            "<h2>Contingency table</h2>",
            '<p class="soft">Pixels; rows are the reference, columns the prediction. '
            "The shade is the share of the row.</p>",
            _contingency(found.table),
            "<h2>How far can the confidence be trusted?</h2>",
            '<div class="two">',
            diagram(curve),
            _bins(curve),
            "</div>",
            "<h2>By place</h2>",
            _places(found),
            f"<h2>Scenes, worst first{_of(shown, len(ranked))}</h2>",
            _key(),
            *(_scene(r, album.pages.get((r.place, r.name))) for r in ranked[:shown]),
            "<h2>All scenes</h2>",
            _scenes(ranked),
            "</body></html>\n",
        ]
    )


def worst_first(scenes: Iterable[SceneResult]) -> list[SceneResult]:
    """By overall accuracy, then name; scenes without a labeled pixel last."""
    return sorted(scenes, key=lambda s: (_overall(s, empty=2.0), s.place, s.name))


def _overall(scene: SceneResult, empty: float = float("nan")) -> float:
    value = scores(scene.table).overall
    return empty if np.isnan(value) else value


def _classes(found: Evaluation, spread: Sequence[object]) -> str:
    s = scores(found.table)
    rows = []
    for i, c in enumerate(LEGEND.classes):
        span = between(spread[i])  # type: ignore[arg-type]
        rows.append(
            [
                _swatch(c.color_hint) + escape(c.title),
                f"{s.pixels[i]:,}",
                percent(s.precision[i]),
                percent(s.recall[i]),
                percent(s.f1[i]) + span,
                percent(s.iou[i]),
            ]
        )
    return _table(["class", "pixels", "precision", "recall", "F1", "IoU"], rows)


def _contingency(table: Counts) -> str:
    lines = ["<tr><th>reference \\ predicted</th>", *(f"<th>{n}</th>" for n in NAMES), "</tr>"]
    for i, name in enumerate(NAMES):
        total = max(1, int(table[i].sum()))
        lines.append(f"<tr><td>{name}</td>")
        for j in range(len(NAMES)):
            part = table[i, j] / total
            hue = "46, 139, 87" if i == j else "192, 57, 43"
            lines.append(
                f'<td style="background: rgba({hue}, {0.65 * part:.3f})">{table[i, j]:,}</td>'
            )
        lines.append("</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _bins(curve: Reliability) -> str:
    rows = [
        [f"{b.low}–{b.high} %", f"{b.pixels:,}", percent(b.confidence), percent(b.accuracy)]
        for b in curve.bins
    ]
    return _table(["confidence", "pixels", "mean", "accuracy"], rows)


def _places(found: Evaluation) -> str:
    rows = []
    for place, scenes in found.places.items():
        s = scores(table_of(scenes))
        seen = " (trained on)" if place in found.trained_on else ""
        figures = (percent(s.overall), share(s.macro_f1), share(s.kappa))
        rows.append([escape(place) + seen, str(len(scenes)), f"{s.pixels.sum():,}", *figures])
    return _table(["place", "scenes", "pixels", "overall", "macro F1", "kappa"], rows)


def _scenes(ranked: Sequence[SceneResult]) -> str:
    rows = [
        [
            escape(r.name),
            escape(r.place),
            escape(r.year) or "–",
            f"{sum(r.confidence):,}",
            percent(_overall(r)),
        ]
        for r in ranked
    ]
    return _table(["scene", "place", "year", "pixels", "overall"], rows)


def _scene(result: SceneResult, pictures: Pictures | None) -> str:
    head = (
        f"<h3>{escape(result.name)}<span>{percent(_overall(result))} of "
        f"{sum(result.confidence):,} labeled pixels{_confused(result)}</span></h3>"
    )
    if pictures is None:
        return f'<div class="scene">{head}</div>'
    shown = [
        ("imagery", pictures.imagery),
        ("label", pictures.label),
        ("prediction", pictures.prediction),
        ("errors", pictures.errors),
    ]
    figures = "".join(
        f'<figure><img alt="{what} of {escape(result.name)}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        f"<figcaption>{what}</figcaption></figure>"
        for what, png in shown
    )
    return f'<div class="scene">{head}<div class="strip">{figures}</div></div>'


def _confused(result: SceneResult) -> str:
    """The commonest confusion of a scene, in words."""
    wrong = result.table
    np.fill_diagonal(wrong, 0)
    if not wrong.any():
        return ""
    i, j = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return f"; most often {NAMES[i]} taken for {NAMES[j]} ({wrong[i, j]:,})"


def _key() -> str:
    items = [(c.color_hint, c.title) for c in LEGEND.classes]
    items += [("FFFFFF", "unlabeled"), (RIGHT, "right"), (WRONG, "wrong")]
    spans = "".join(f"<span>{_swatch(color)}{escape(text)}</span>" for color, text in items)
    return f'<div class="key">{spans}</div>'


def _swatch(color: str) -> str:
    return f'<i class="swatch" style="background: #{color}"></i>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def _of(shown: int, total: int) -> str:
    return f" ({shown} of {total})" if shown < total else ""
