"""Dropout drops the share it says, keeps the mean, and repeats itself from torch's random state."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")

from training.network.unet import Dropout  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_the_share_is_dropped_in_every_channel_and_the_mean_kept(share: float) -> None:
    torch.manual_seed(1)
    x = torch.ones(8, 5, 96, 96).contiguous(memory_format=torch.channels_last)
    y = Dropout(share).train()(x)
    # 73,728 draws a channel: four standard deviations, and half a level of rounding.
    near = 4 * (share * (1 - share) / 73_728) ** 0.5
    dropped = (y == 0).float().mean((0, 2, 3))
    assert (dropped - share).abs().max() < near + 0.5 / 256
    assert abs(float(y.mean()) - 1) < near / (1 - share)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_neighbors_are_dropped_independently() -> None:
    torch.manual_seed(2)
    gone = (Dropout(0.5).train()(torch.ones(4, 8, 64, 64)) == 0).float() - 0.5
    for dim in (0, 1, 2, 3):
        there = gone.narrow(dim, 1, gone.shape[dim] - 1)
        before = gone.narrow(dim, 0, gone.shape[dim] - 1)
        correlation = float((there * before).mean() / 0.25)
        assert abs(correlation) < 5 / there.numel() ** 0.5


def test_it_repeats_itself_and_rests_when_not_training() -> None:
    x = torch.randn(2, 3, 17, 5)
    drop = Dropout(0.3)
    torch.manual_seed(3)
    first = drop.train()(x)
    second = drop(x)
    torch.manual_seed(3)
    assert torch.equal(drop(x), first)
    assert not torch.equal(second, first)
    assert drop.eval()(x) is x
    assert Dropout(0.0).train()(x) is x


def test_no_gradient_passes_where_it_dropped() -> None:
    torch.manual_seed(4)
    x = torch.ones(1, 2, 8, 8, requires_grad=True)
    y = Dropout(0.5).train()(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
