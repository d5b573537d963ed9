"""Adjusted areas against the worked example of the paper and against a simulation."""

from __future__ import annotations

import numpy as np
import pytest

from app.area.accuracy import Z95, adjusted, t95

# Olofsson et al. 2014, table 8: rows are the map, columns the reference; deforestation, gain,
# stable forest, stable non-forest. Mapped pixels of 30 m.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
HECTARES = np.array([200_000, 150_000, 3_200_000, 6_450_000]) * 0.09


def test_the_worked_example_of_the_paper() -> None:
    found = adjusted(HECTARES, COUNTS.T.tolist())
    assert found.area == pytest.approx([21_158, 11_686, 285_770, 581_386], abs=0.5)
    assert found.standard_error * 1.96 == pytest.approx([6_158, 3_756, 15_510, 16_282], abs=0.5)
    low, high = found.interval(0) or (0, 0)
    assert (high - low) / 2 == pytest.approx(6_158, abs=1)
    assert found.unassessed == ()


def test_adjusting_moves_area_and_loses_none() -> None:
    assert adjusted(HECTARES, COUNTS.T.tolist()).area.sum() == pytest.approx(HECTARES.sum())


def test_a_map_without_errors_stays_as_it_is() -> None:
    found = adjusted([3.0, 0.0, 7.0], [[50, 0, 0], [0, 20, 0], [0, 0, 30]])
    assert found.area == pytest.approx([3, 0, 7])
    assert found.standard_error == pytest.approx([0, 0, 0])


def test_ninety_five_of_a_hundred_intervals_hold_the_truth() -> None:
    """A made population, sampled by mapped class as the estimator assumes."""
    draw = np.random.default_rng(7)
    shares = np.array([[0.85, 0.1, 0.05], [0.2, 0.7, 0.1], [0.02, 0.08, 0.9]])
    mapped = np.array([100.0, 50.0, 850.0])
    truth = mapped @ shares
    held = np.zeros(3)
    rounds = 2000
    for _ in range(rounds):
        counts = np.stack(
            [draw.multinomial(n, row) for n, row in zip((120, 120, 300), shares, strict=True)]
        )
        found = adjusted(mapped, counts.T.tolist())
        held += np.abs(found.area - truth) <= Z95 * found.standard_error
    assert (held / rounds > 0.92).all()
    assert (held / rounds < 0.98).all()


def test_a_class_that_was_never_assessed_stays_as_mapped_and_its_error_is_unknown() -> None:
    found = adjusted([10.0, 5.0], [[8, 0], [2, 0]])
    assert found.unassessed == (1,)
    assert found.area == pytest.approx([8, 7])
    assert found.interval(1) is None


def test_a_class_without_reference_is_unassessed_not_nothing() -> None:
    """Water is mapped, and was predicted where the labels say other things: no label is water."""
    table = [[80, 5, 4], [10, 90, 2], [0, 0, 0]]
    found = adjusted([10.0, 20.0, 5.0], table)
    assert found.unassessed == (2,)
    assert found.area[2] == 5.0
    assert found.interval(2) is None
    assert found.area.sum() == pytest.approx(35)
    assert found.interval(0) is not None
    unmapped = adjusted([10.0, 20.0, 0.0], table)
    assert (unmapped.area[2], unmapped.unassessed, unmapped.interval(2)) == (0, (2,), None)


def test_intervals_between_places_hold_the_truth_where_those_of_pixels_do_not() -> None:
    """Made places, each with error rates of its own, of which ten are assessed."""
    draw = np.random.default_rng(5)
    mapped, rounds, classes = np.array([300.0, 700.0]), 600, 2
    held = np.zeros((2, classes))
    for _ in range(rounds):
        tables = []
        for _ in range(10):
            right = draw.beta((8, 16), (2, 4))  # of the places' mapped classes
            rows = np.array([[right[0], 1 - right[0]], [1 - right[1], right[1]]])
            tables.append(np.stack([draw.multinomial(400, row) for row in rows]).T)
        truth = mapped @ np.array([[0.8, 0.2], [0.2, 0.8]])
        pooled = np.sum(tables, axis=0).tolist()
        each = [table.tolist() for table in tables]
        for way, found in enumerate((adjusted(mapped, pooled), adjusted(mapped, pooled, each))):
            for index in range(classes):
                low, high = found.interval(index) or (0, 0)
                held[way, index] += low <= truth[index] <= high
    assert (held[0] / rounds < 0.5).all()
    assert (held[1] / rounds > 0.9).all()


def test_the_quantile_is_students() -> None:
    assert t95(1) == 12.706
    for freedom, value in {6: 2.447, 10: 2.228, 30: 2.042, 1000: 1.962}.items():
        assert t95(freedom) == pytest.approx(value, abs=2e-3)


def test_one_unit_says_nothing_of_the_error() -> None:
    assert adjusted([10.0, 5.0], [[8, 0], [2, 1]]).interval(0) is None


def test_a_class_that_is_not_mapped_needs_no_assessment() -> None:
    found = adjusted([10.0, 0.0], [[8, 0], [2, 0]])
    assert found.unassessed == ()
    assert found.area == pytest.approx([8, 2])
    assert found.interval(0) is not None


def test_no_area_is_no_error() -> None:
    found = adjusted([0.0, 0.0], [[8, 0], [2, 0]])
    assert found.area.tolist() == [0, 0]
    assert found.interval(0) == (0, 0)


def test_an_interval_does_not_go_below_nothing() -> None:
    found = adjusted([1.0, 1000.0], [[3, 1], [1, 200]])
    assert (found.interval(0) or (-1, 0))[0] == 0


def test_a_table_of_another_legend_is_refused() -> None:
    with pytest.raises(ValueError, match="3 × 3"):
        adjusted([1, 2, 3], [[1, 2], [3, 4]])
