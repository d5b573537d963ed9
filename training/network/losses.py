"""The loss: cross-entropy over the six classes on labeled pixels only.

Background (0) means unlabeled and is not a class: its pixels have no weight and its logit is not in
the softmax, so it gets no gradient.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BACKGROUND = 0


def masked_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    smoothing: float = 0.0,
    uncertain: Tensor | None = None,
    noise_threshold: float = 0.0,
) -> Tensor:
    """Return the weighted mean of the cross-entropy over labeled pixels; 0 without any.

    logits: float32 (N, 1 + K, rows, cols), background first. labels: int64 (N, rows, cols), 0 =
    unlabeled, else 1..K. weights: float32 (K,), of the classes 1..K. smoothing: the share of the
    target distributed uniformly over the K classes (Szegedy et al. 2016). uncertain: bool (N, rows,
    cols), labels of another year, which count only where their class has a probability of at least
    `noise_threshold`.
    """
    known = labels != BACKGROUND
    if not bool(known.any()):
        return logits.sum() * 0.0
    scores = logits[:, 1:].permute(0, 2, 3, 1)[known]
    targets = labels[known] - 1
    logp = torch.log_softmax(scores, dim=1)
    hit = logp.gather(1, targets[:, None]).squeeze(1)
    each = -(1.0 - smoothing) * hit - smoothing * logp.mean(dim=1)
    weight = weights[targets]
    if uncertain is not None:
        trusted = ~uncertain[known] | (hit.detach().exp() >= noise_threshold)
        weight = weight * trusted
    return (weight * each).sum() / weight.sum().clamp_min(1e-6)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over all pixels of the cross-entropy with soft labels (Hinton et al. 2015).

    logits: float32 (N, 1 + K, rows, cols), background first. targets: float32 (N, K, rows, cols),
    probabilities of the classes.
    """
    return -(targets * torch.log_softmax(logits[:, 1:], dim=1)).sum(dim=1).mean()


def class_weights(counts: NDArray[np.int64], how: str, limit: float) -> NDArray[np.float32]:
    """Return weights of the classes 1..K from their pixel counts, with a mean of 1 before the
    limit.

    counts: int64 (K,). how: "none" or "inverse_sqrt". A class without pixels weighs 1.
    """
    weights = np.ones(len(counts), dtype=np.float64)
    there = counts > 0
    if how == "inverse_sqrt" and there.any():
        weights[there] = 1.0 / np.sqrt(counts[there])
        weights[there] /= weights[there].mean()
    return np.minimum(weights, limit).astype(np.float32)
