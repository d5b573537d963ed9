"""Unlabeled pixels and the background logit do not exist for the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")

from training.network.losses import class_weights, masked_cross_entropy  # noqa: E402

pytestmark = pytest.mark.torch

WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 1.0, 1.5, 1.0])


def _sample(seed: int = 0) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 7, 8, 8, generator=generator)
    labels = torch.randint(0, 7, (2, 8, 8), generator=generator)
    return logits, labels


@pytest.mark.parametrize("smoothing", [0.0, 0.05])
def test_equals_torchs_own_loss_over_the_six_classes(smoothing: float) -> None:
    logits, labels = _sample()
    known = labels > 0
    scores = logits[:, 1:].permute(0, 2, 3, 1)[known]
    targets = labels[known] - 1
    each = torch.nn.functional.cross_entropy(
        scores, targets, reduction="none", label_smoothing=smoothing
    )
    weight = WEIGHTS[targets]
    expected = (each * weight).sum() / weight.sum()
    torch.testing.assert_close(masked_cross_entropy(logits, labels, WEIGHTS, smoothing), expected)


def test_unlabeled_pixels_change_nothing_at_all() -> None:
    logits, labels = _sample()
    before = masked_cross_entropy(logits, labels, WEIGHTS, 0.05)
    wild = torch.where((labels == 0)[:, None], torch.full_like(logits, 1e6), logits)
    assert torch.equal(masked_cross_entropy(wild, labels, WEIGHTS, 0.05), before)


def test_no_gradient_reaches_unlabeled_pixels_or_background() -> None:
    logits, labels = _sample()
    logits.requires_grad_()
    masked_cross_entropy(logits, labels, WEIGHTS, 0.05).backward()
    gradient = logits.grad
    assert not gradient[:, 0].any()
    assert not gradient.permute(0, 2, 3, 1)[labels == 0].any()
    assert gradient.permute(0, 2, 3, 1)[labels > 0][:, 1:].any(dim=1).all()


def test_a_doubtful_label_counts_only_where_it_is_believed() -> None:
    logits, labels = _sample()
    uncertain = torch.zeros_like(labels, dtype=torch.bool)
    uncertain[0] = True
    given = torch.softmax(logits[:, 1:], dim=1).gather(1, (labels - 1).clamp_min(0)[:, None])[:, 0]
    kept = torch.where(uncertain & (given < 0.1), torch.zeros_like(labels), labels)
    assert 0 < int((kept != labels).sum()) < int((labels[0] > 0).sum())
    torch.testing.assert_close(
        masked_cross_entropy(logits, labels, WEIGHTS, 0.05, uncertain, 0.1),
        masked_cross_entropy(logits, kept, WEIGHTS, 0.05),
    )


def test_nothing_labeled_is_zero_with_a_zero_gradient() -> None:
    logits, labels = _sample()
    logits.requires_grad_()
    loss = masked_cross_entropy(logits, torch.zeros_like(labels), WEIGHTS)
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()


def test_class_weights_follow_the_inverse_root_and_the_limit() -> None:
    counts = np.array([100, 400, 0, 1], np.int64)
    there = np.array([1 / 10, 1 / 20, 1.0])
    expected = there / there.mean()
    result = class_weights(counts, "inverse_sqrt", 2.0)
    np.testing.assert_allclose(result, [expected[0], expected[1], 1.0, 2.0], rtol=1e-6)
    assert class_weights(counts, "none", 2.0).tolist() == [1.0, 1.0, 1.0, 1.0]
