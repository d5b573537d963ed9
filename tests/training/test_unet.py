"""The net: its size, its shapes, and batch norm that leaves without a trace."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")

from training.config import Activation  # noqa: E402
from training.network.build import fold  # noqa: E402
from training.network.losses import masked_cross_entropy  # noqa: E402
from training.network.unet import PARAMETERS, UNet, parameter_count  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("activation", ["relu", "elu"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_has_the_articles_number_of_parameters(activation: Activation, batch_norm: bool) -> None:
    net = UNet(activation, batch_norm)
    assert parameter_count(net) == PARAMETERS == 1_941_351
    assert sum(p.numel() for p in fold(net).parameters()) == PARAMETERS


@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 32, 48)])
def test_keeps_rows_and_columns(shape: tuple[int, int, int]) -> None:
    count, rows, cols = shape
    with torch.inference_mode():
        assert UNet().eval()(torch.zeros(count, 4, rows, cols)).shape == (count, 7, rows, cols)


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_folding_batch_norm_changes_no_answer(activation: Activation) -> None:
    torch.manual_seed(1)
    net = UNet(activation)
    for module in net.modules():  # as if it had been trained
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
            torch.nn.init.normal_(module.running_mean, std=0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    folded = fold(net)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    batch = torch.randn(2, 4, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(folded(batch), net.eval()(batch), rtol=1e-4, atol=1e-4)


def test_background_learns_nothing() -> None:
    torch.manual_seed(2)
    net = UNet()
    labels = torch.randint(0, 7, (2, 32, 32))
    masked_cross_entropy(net(torch.randn(2, 4, 32, 32)), labels, torch.ones(6), 0.05).backward()
    assert not net.last.weight.grad[0].any()
    assert not net.last.bias.grad[0].any()
    assert net.last.weight.grad[1:].any()
