"""Results of scenes: kept, pooled over folds, and summed up by place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from training.errors import AssessmentError
from training.evaluate.confidence import intervals, reliability
from training.evaluate.metrics import Counts, scores
from training.evaluate.results import (
    CLASSES,
    PER_CENT,
    Evaluation,
    ModelFacts,
    SceneResult,
    mean_of_places,
    pooled,
    sum_of,
)

NO_PLACES: tuple[str, ...] = ()


def facts(graph: str = "a", places: tuple[str, ...] = NO_PLACES) -> ModelFacts:
    return ModelFacts(name="net", preset="default", steps=7, graph=graph, places=places)


def scene(
    name: str, place: str, table: Counts, sure: int = 80, ground: str = "", year: str = "2018"
) -> SceneResult:
    """A scene whose every pixel was predicted with `sure` per cent."""
    confidence, right = [0] * PER_CENT, [0] * PER_CENT
    confidence[sure], right[sure] = int(table.sum()), int(np.trace(table))
    return SceneResult(
        name=name,
        place=place,
        year=year,
        ground=ground or name,
        contingency=tuple(tuple(map(int, row)) for row in table),
        confidence=tuple(confidence),
        right=tuple(right),
    )


def evaluation(*scenes: SceneResult, graph: str = "a", command: str = "measure") -> Evaluation:
    return Evaluation(
        name="test",
        role="unseen",
        description="made",
        commands=(command,),
        models=(facts(graph),),
        scenes=scenes,
    )


def random_table(seed: int, most: int = 200) -> Counts:
    rng = np.random.default_rng(seed)
    table: Counts = rng.integers(0, most, (CLASSES, CLASSES)).astype(np.int64)
    table[np.diag_indices(CLASSES)] += most
    return table


def right_and_wrong(right: int, wrong: int) -> Counts:
    table = np.zeros((CLASSES, CLASSES), np.int64)
    table[0, 0], table[0, 1] = right, wrong
    return table


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    result = evaluation(scene("a", "x", random_table(1)))
    result.write(tmp_path / "deep" / "found.json")
    assert Evaluation.read(tmp_path / "deep" / "found.json") == result


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"kind": "years"}'])
def test_what_is_no_result_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "found.json"
    path.write_text(text)
    with pytest.raises(AssessmentError, match=r"found\.json"):
        Evaluation.read(path)
    with pytest.raises(AssessmentError, match="No such file"):
        Evaluation.read(tmp_path / "none.json")


def test_a_scene_whose_histogram_and_table_disagree_is_refused() -> None:
    good = scene("a", "x", right_and_wrong(3, 1))
    values = good.model_dump()
    for field, histogram in (
        ("confidence", [5] + [0] * (PER_CENT - 1)),
        ("right", [4] + [0] * (PER_CENT - 1)),
        ("right", [3] + [0] * (PER_CENT - 1)),  # as many as in the table, but not where they are
    ):
        with pytest.raises(ValidationError):
            SceneResult.model_validate(values | {field: tuple(histogram)})


def test_a_pool_has_the_sum_of_the_folds_tables_and_every_scene_once() -> None:
    folds = [
        evaluation(scene("a", "x", random_table(1)), graph="a", command="fold x"),
        evaluation(
            scene("a", "y", random_table(2)),
            scene("b", "y", random_table(3)),
            graph="b",
            command="fold y",
        ),
    ]
    whole = pooled(folds)
    assert (whole.table == random_table(1) + random_table(2) + random_table(3)).all()
    assert [(s.place, s.name) for s in whole.scenes] == [("x", "a"), ("y", "a"), ("y", "b")]
    assert whole.commands == ("fold x", "fold y")
    assert [m.graph for m in whole.models] == ["a", "b"]


def test_folds_that_assess_a_scene_twice_or_another_thing_or_nothing_are_refused() -> None:
    fold = evaluation(scene("a", "x", random_table(1)))
    with pytest.raises(AssessmentError, match="x/a was evaluated twice"):
        pooled([fold, fold])
    other = evaluation(scene("b", "x", random_table(1))).model_copy(update={"role": "own"})
    with pytest.raises(AssessmentError, match="own"):
        pooled([fold, other])
    with pytest.raises(AssessmentError, match="nothing to pool"):
        pooled([])


def test_every_place_weighs_the_same_in_the_mean_of_places() -> None:
    result = evaluation(
        scene("a", "x", right_and_wrong(900, 100)),
        scene("b", "x", right_and_wrong(9000, 1000)),
        scene("a", "y", right_and_wrong(1, 1)),
        scene("a", "z", right_and_wrong(0, 0)),
    )
    assert mean_of_places(result) == pytest.approx((0.9 + 0.5) / 2)
    assert scores(result.table).overall == pytest.approx(9901 / 11002)


def test_the_sum_of_no_tables_is_zero() -> None:
    assert sum_of([]).tolist() == [[0] * CLASSES] * CLASSES


def test_the_same_seed_draws_the_same_interval_and_another_seed_another() -> None:
    result = evaluation(*(scene("a", p, random_table(i)) for i, p in enumerate("uvwxyz")))
    first, again = intervals(result, 300, seed=4), intervals(result, 300, seed=4)
    assert first == again
    assert intervals(result, 300, seed=5).overall != first.overall


def test_the_interval_is_the_quantile_of_every_possible_draw_of_places() -> None:
    """Three places have 27 equally likely draws: their quantiles are the oracle."""
    tables = [right_and_wrong(90, 10), right_and_wrong(300, 700), right_and_wrong(60, 40)]
    result = evaluation(*(scene("a", p, t) for p, t in zip("xyz", tables, strict=True)))
    draws = [
        sum((tables[i] for i in (a, b, c)), np.zeros_like(tables[0]))
        for a in range(3)
        for b in range(3)
        for c in range(3)
    ]
    known = intervals(result, resamples=20_000, level=0.8)
    for figure in ("overall", "macro_f1"):
        every = [getattr(scores(t), figure) for t in draws]
        low, high = np.quantile(every, [0.1, 0.9], method="inverted_cdf")
        assert getattr(known, figure).low == pytest.approx(low, abs=1e-9)
        assert getattr(known, figure).high == pytest.approx(high, abs=1e-9)
    every = [np.mean([[0.9, 0.3, 0.6][i] for i in d]) for d in np.ndindex(3, 3, 3)]
    low, high = np.quantile(every, [0.1, 0.9], method="inverted_cdf")
    assert known.mean_of_places.low == pytest.approx(low)
    assert known.mean_of_places.high == pytest.approx(high)
    assert "3 places" in known.method


def test_dates_of_one_ground_are_no_separate_evidence() -> None:
    one = [scene(f"a{y}", "x", random_table(y), ground="same") for y in range(5)]
    known = intervals(evaluation(*one))
    assert np.isnan(known.overall.low)
    assert "one piece of ground" in known.method
    two = intervals(evaluation(*one, scene("b", "x", right_and_wrong(1, 1), ground="other")))
    assert not np.isnan(two.overall.low)
    assert "2 pieces of ground" in two.method
    assert np.isnan(two.mean_of_places.low)


def test_a_class_that_a_draw_lacks_has_no_figure_in_it() -> None:
    with_it, without = right_and_wrong(80, 20), np.zeros((CLASSES, CLASSES), np.int64)
    without[1, 1], without[1, 0] = 90, 10  # class 1 is predicted there, but is not there
    result = evaluation(
        *(scene("a", p, t) for p, t in zip("xyz", (with_it, without, without), strict=True))
    )
    assert intervals(result).f1[0].low > 0.5


def test_reliability_by_hand() -> None:
    result = evaluation(
        scene("a", "x", right_and_wrong(50, 50), sure=92),
        scene("b", "x", right_and_wrong(30, 10), sure=98),
        scene("c", "x", right_and_wrong(6, 4), sure=100),
        scene("d", "x", right_and_wrong(20, 30), sure=40),
    )
    curve = reliability(result)
    low, high = curve.bins
    assert (low.low, low.high, low.pixels, low.confidence, low.accuracy) == (40, 50, 50, 0.4, 0.4)
    assert (high.low, high.high, high.pixels) == (90, 100, 150)
    assert high.confidence == pytest.approx((100 * 0.92 + 40 * 0.98 + 10) / 150)
    assert high.accuracy == pytest.approx(86 / 150)
    assert curve.error == pytest.approx(150 * (high.confidence - high.accuracy) / 200)


def test_reliability_counts_every_pixel_once_whatever_the_bins() -> None:
    result = evaluation(
        *(scene(f"s{c}", "x", right_and_wrong(c, 101 - c), sure=c) for c in range(PER_CENT))
    )
    for bins in (1, 2, 4, 5, 10, 20, 100):
        curve = reliability(result, bins)
        assert sum(b.pixels for b in curve.bins) == 101 * 101
        assert sum(b.pixels * b.accuracy for b in curve.bins) == pytest.approx(5050)
    for bins in (0, 3, 101):
        with pytest.raises(ValueError, match="must divide 100"):
            reliability(result, bins)


def test_the_reliability_of_nothing_labeled_is_unknown() -> None:
    curve = reliability(evaluation(scene("a", "x", right_and_wrong(0, 0))))
    assert curve.bins == ()
    assert np.isnan(curve.error)
