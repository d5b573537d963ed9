"""Pages: every figure on them is that of the tables they are made from."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from typer.testing import CliRunner

from model.card import ModelCard
from model.legend import LEGEND, NODATA
from model.segment import Segmentation
from tests.training.conftest import MakeScene
from tests.training.test_assessment import evaluation, facts, random_table, right_and_wrong, scene
from training.errors import AssessmentError
from training.evaluate.lowres import CoarseScene, CoarseTables, LowRes
from training.evaluate.metrics import scores
from training.evaluate.results import Evaluation, mean_of_places
from training.evaluate.years import Ground, PairTable, Years, YearTable
from training.report.accuracy import ARTICLE, MARKS, collect, with_paragraph, write_docs
from training.report.evaluation import html, markdown, worst_first
from training.report.pictures import ScenePreviews, preview_of
from training.report.tables import NAMES, percent

ROOT = Path(__file__).parents[2]
CARD = ModelCard(name="test", version="1", mean=(0.4,) * 4, std=(0.2,) * 4)


def rows(table: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, row)) for row in table)


def years(accuracies: dict[str, int], held: dict[str, int] | None = None) -> Years:
    """One ground of 100 labeled pixels, right in so many of each year; `held`: of 50 that hold."""

    def ground(right: dict[str, int], pixels: int) -> Ground:
        tables = {y: rows(right_and_wrong(n, pixels - n)) for y, n in right.items()}
        pair = rows(right_and_wrong(pixels * 7 // 10, pixels * 3 // 10))
        return Ground(
            name="x_1",
            place="x",
            label_year="2016",
            years=tuple(YearTable(year=y, contingency=t) for y, t in tables.items()),
            pairs=(PairTable(first="2016", second="2018", contingency=pair),),
        )

    return Years(
        commands=("measure years",),
        models=(facts(),),
        grounds=(ground(accuracies, 100),),
        holding=(ground(held, 50) if held else ground(accuracies, 100),),
    )


def lowres(agree: int) -> LowRes:
    whole, part = rows(right_and_wrong(80, 20)), rows(right_and_wrong(agree, 100 - agree))
    coarse = CoarseTables(factor=4, agreement=part, accuracy=whole)
    return LowRes(
        ground_resolution=1.0,
        commands=("measure lowres",),
        models=(facts(),),
        scenes=(CoarseScene(name="a", place="x", accuracy=whole, coarse=(coarse,)),),
    )


def test_years_are_compared_where_their_labels_hold() -> None:
    every, held = (90, 80, 85), (45, 44, 40)
    of = dict(zip(("2016", "2018", "2020"), every, strict=True))
    holding = dict(zip(of, held, strict=True))
    result = years(of, holding).model_copy(update={"description": "Ground of nobody's training."})
    text = collect(CARD, "g", [result]).markdown()
    assert "Ground of nobody's training." in text
    assert f"| all | 1 | 50 | {' | '.join(f'{2 * n}.0 %' for n in held)} | 10.0 |" in text
    assert f"| all | 1 | 100 | {' | '.join(f'{n}.0 %' for n in every)} | 10.0 |" in text


def test_the_page_states_the_figures_pixels_and_commands_of_every_result() -> None:
    folds = [
        evaluation(scene("a", p, random_table(i)), graph=p, command=f"fold {p}")
        for i, p in enumerate("xyz")
    ]
    text = collect(CARD, "g", [*folds, years({"2016": 90, "2018": 85, "2020": 88}), lowres(86)])
    lines = text.markdown()
    whole = sum((f.table for f in folds), np.zeros((6, 6), np.int64))
    s = scores(whole)
    for i, c in enumerate(LEGEND.classes):
        assert f"| {c.name} | {s.pixels[i]:,} | {percent(s.precision[i])} |" in lines
    assert f"| Unseen places | 3 | {whole.sum():,} | {percent(s.overall)} (" in lines
    for command in ("fold x", "fold y", "fold z", "measure years", "measure lowres"):
        assert f"    {command}\n" in lines
    assert "| all | 1 | 100 | 90.0 % | 85.0 % | 88.0 % | 5.0 |" in lines
    assert "| 2016 and 2018 | 100 | 70.0 % |" in lines
    assert "| 4 m | 100 | 86.0 % |" in lines
    assert "3 models (one per fold)" in lines


def test_results_of_different_presets_are_not_mixed() -> None:
    ours = evaluation(scene("a", "x", random_table(1)))
    other = facts().model_copy(update={"preset": "other"})
    theirs = evaluation(scene("b", "x", random_table(2))).model_copy(update={"models": (other,)})
    page = collect(CARD, "g", [ours, theirs])
    titles = [f"Unseen places, preset {preset}" for preset in sorted((facts().preset, "other"))]
    assert list(page.evaluations) == titles
    for each in (ours, theirs):
        pixels = f"{each.table.sum():,} | {percent(scores(each.table).overall)}"
        (title,) = (t for t, e in page.evaluations.items() if e.models == each.models)
        assert f"| {title} | 1 | {pixels}" in page.markdown()
        assert f"{pixels.partition(' |')[0]} pixels" in page.sentence()
    mixed = ours.model_copy(update={"models": (*ours.models, other)})
    with pytest.raises(AssessmentError, match="different presets"):
        collect(CARD, "g", [mixed])


def test_the_article_stands_beside_what_was_measured() -> None:
    result = evaluation(scene("a", "x", random_table(1)))
    text = collect(CARD, "g", [result]).markdown()
    s = scores(result.table)
    precision, recall = ARTICLE["water"]
    ours = f"{percent(s.precision[2])}, {percent(s.recall[2])}, {s.pixels[2]:,}"
    assert f"| water | {percent(precision)}, {percent(recall)} | {ours} |" in text


def test_the_articles_table_has_the_legends_classes() -> None:
    assert tuple(ARTICLE) == NAMES


def test_a_page_says_when_a_place_was_trained_on() -> None:
    found = evaluation(scene("a", "x", random_table(1)))
    assert "None of these places was in its training data" in markdown(found)
    known = found.model_copy(update={"trained_on": ("x",)})
    assert "| x (trained on) |" in markdown(known)


class Page(HTMLParser):
    """Pictures and whatever a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[bytes] = []
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"src", "href"} and value is not None:
                head, _, data = value.partition("base64,")
                if head == "data:image/png;":
                    self.pictures.append(base64.b64decode(data))
                else:
                    self.fetched.append(value)
        if tag not in {"meta", "img", "line", "circle", "polyline"}:
            self.open.append(tag)
        if tag == "script":
            self.fetched.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Drawn shapes: nothing to fetch."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_html_page_is_whole_well_formed_and_shows_the_worst_scenes_first(
    make_scene: MakeScene,
) -> None:
    previews = ScenePreviews()
    found = evaluation(
        scene("best", "x", right_and_wrong(9, 1)),
        scene("worst", "x", right_and_wrong(1, 9)),
        scene("<b>odd&", "x", right_and_wrong(5, 5)),
    )
    for result in found.scenes:
        synthetic = make_scene(result.name, "x")
        previews.add(synthetic, Segmentation(synthetic.label, synthetic.label))
    text = html(found, previews, shown=2)
    parsed = Page()
    parsed.feed(text)
    parsed.close()
    assert parsed.open == []
    assert parsed.fetched == []
    assert len(parsed.pictures) == 8
    for png in parsed.pictures:
        assert Pillow.open(io.BytesIO(png)).size == (96, 96)
    heads = re.findall(r"<h3>(.*?)<span>", text)
    assert heads == ["worst", "&lt;b&gt;odd&amp;"]
    assert [r.name for r in worst_first(found.scenes)] == ["worst", "<b>odd&", "best"]


def test_pictures_show_classes_in_their_colors_and_errors_where_they_are(
    make_scene: MakeScene,
) -> None:
    synthetic = make_scene("a", size=4)
    synthetic.label[:] = [[0, 1, 2, 3], [4, 5, 6, 1], [0] * 4, [1] * 4]
    shown = synthetic.label.copy()
    shown[0, 1], shown[0, 0], shown[3, 3] = 2, 3, NODATA
    found = preview_of(synthetic, Segmentation(shown, shown))

    def colors(png: bytes) -> list[list[tuple[int, ...]]]:
        pixels = np.asarray(Pillow.open(io.BytesIO(png)).convert("RGB"))
        return [[tuple(map(int, p)) for p in row] for row in pixels]

    white, green, red = (255, 255, 255), (213, 232, 212), (192, 57, 43)
    legend = {0: white, NODATA: white} | {c.value: c.rgb for c in LEGEND.classes}
    assert colors(found.label) == [[legend[int(v)] for v in row] for row in synthetic.label]
    assert colors(found.prediction) == [[legend[int(v)] for v in row] for row in shown]
    errors = colors(found.errors)
    assert errors[0] == [white, red, green, green]
    assert errors[2] == [white] * 4
    assert errors[3] == [green, green, green, white]  # no imagery: neither right nor wrong


def test_the_paragraph_replaces_what_stands_between_the_marks() -> None:
    text = f"before\n{MARKS[0]}\nold\nlines\n{MARKS[1]}\nafter\n"
    once = with_paragraph(text, "new")
    assert once == f"before\n{MARKS[0]}\nnew\n{MARKS[1]}\nafter\n"
    assert with_paragraph(once, "new") == once
    for lost in MARKS:
        with pytest.raises(AssessmentError, match="the page has no lines"):
            with_paragraph(text.replace(lost, ""), "new")


def test_the_docs_are_what_their_generator_makes_of_the_kept_results(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs onnx: make setup TRAIN=1")
    from training.cli.evaluate import MEASURED, read_result
    from training.evaluate.evaluation import Subject

    subject = Subject.load(ROOT / "model" / "weights" / "landcover.onnx")
    results = [read_result(path) for path in sorted((ROOT / MEASURED).glob("*.json"))]
    fast = [read_result(path) for path in sorted((ROOT / MEASURED / "fast").glob("*.json"))]
    page = collect(subject.session.metadata, subject.facts.graph, results, fast)
    readme = tmp_path / "README.md"
    readme.write_bytes((ROOT / "README.md").read_bytes())
    write_docs(page, tmp_path / "accuracy.md", readme)
    for made, kept in (
        ("accuracy.md", "docs/accuracy.md"),
        ("accuracy.svg", "docs/accuracy.svg"),
        ("README.md", "README.md"),
    ):
        assert (tmp_path / made).read_text() == (ROOT / kept).read_text(), f"{kept}: make docs"


def test_the_accuracy_command_writes_the_page_and_refuses_what_is_no_result(
    tmp_path: Path,
) -> None:
    pytest.importorskip("onnx", reason="needs onnx: make setup TRAIN=1")
    from tests.world.graphs import write_model
    from training.__main__ import app

    weights = write_model(tmp_path / "net.onnx")
    found: Evaluation = evaluation(scene("a", "x", random_table(1)))
    found.write(tmp_path / "a.json")
    out = tmp_path / "accuracy.md"
    command = ["accuracy", str(tmp_path / "a.json"), "--weights", str(weights), "--out", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert percent(mean_of_places(found)) in out.read_text()
    assert (tmp_path / "accuracy.svg").read_text().startswith("<svg")
    (tmp_path / "bad.json").write_text('{"kind": "recipe"}')
    done = CliRunner().invoke(app, ["accuracy", str(tmp_path / "bad.json")])
    assert isinstance(done.exception, AssessmentError)
    assert "bad.json" in str(done.exception)
