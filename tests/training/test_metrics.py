"""Metrics against a table worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluate.metrics import contingency, scores

TABLE = np.array([[8, 2, 0], [1, 6, 0], [0, 0, 0]], np.int64)


def test_contingency_counts_reference_by_row_and_leaves_out_unlabeled() -> None:
    reference = np.array([[1, 1, 2, 0], [2, 2, 3, 0]], np.uint8)
    predicted = np.array([[1, 2, 2, 3], [2, 1, 3, 0]], np.uint8)
    expected = [[1, 1, 0], [1, 2, 0], [0, 0, 1]]
    assert contingency(reference, predicted, 3).tolist() == expected


def test_contingency_of_nothing_labeled_is_zero() -> None:
    nothing = np.zeros((3, 3), np.uint8)
    assert contingency(nothing, nothing, 6).sum() == 0


@pytest.mark.parametrize(("reference", "predicted"), [(1, 0), (1, 255), (7, 1)])
def test_contingency_refuses_values_outside_the_classes(reference: int, predicted: int) -> None:
    with pytest.raises(ValueError, match=r"allowed are 1\.\.6"):
        contingency(np.full((1, 1), reference, np.uint8), np.full((1, 1), predicted, np.uint8), 6)


def test_contingency_refuses_different_shapes() -> None:
    with pytest.raises(ValueError, match="reference is"):
        contingency(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 6)


def test_scores_by_hand() -> None:
    result = scores(TABLE)
    assert result.pixels.tolist() == [10, 7, 0]
    assert result.overall == pytest.approx(14 / 17)
    np.testing.assert_allclose(result.precision, [8 / 9, 6 / 8, np.nan])
    np.testing.assert_allclose(result.recall, [8 / 10, 6 / 7, np.nan])
    np.testing.assert_allclose(result.f1, [16 / 19, 12 / 15, np.nan])
    np.testing.assert_allclose(result.iou, [8 / 11, 6 / 9, np.nan])
    assert result.macro_f1 == pytest.approx((16 / 19 + 12 / 15) / 2)
    # Chance agreement: (10 * 9 + 7 * 8) / 17 ** 2.
    chance = 146 / 289
    assert result.kappa == pytest.approx((14 / 17 - chance) / (1 - chance))


def test_a_class_that_is_never_predicted_counts_as_zero_in_the_mean() -> None:
    result = scores(np.array([[5, 0], [3, 0]], np.int64))
    assert np.isnan(result.precision[1])
    assert result.macro_f1 == pytest.approx((10 / 13 + 0) / 2)


def test_scores_of_an_empty_table_are_nan() -> None:
    result = scores(np.zeros((6, 6), np.int64))
    assert np.isnan(result.overall)
    assert np.isnan(result.macro_f1)
