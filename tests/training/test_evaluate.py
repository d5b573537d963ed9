"""An assessment: the served file on whole scenes, every labelled pixel counted once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")

from model.card import Assessment, ModelCard  # noqa: E402
from model.session import Session  # noqa: E402
from training import artefact  # noqa: E402
from training.evaluate import assess, onto  # noqa: E402
from training.graph import onnx_of  # noqa: E402
from training.metrics import contingency  # noqa: E402
from training.report import markdown  # noqa: E402
from training.scenes import Scene  # noqa: E402
from training.unet import UNet, fold  # noqa: E402

pytestmark = pytest.mark.torch

MakeScene = Callable[..., Scene]


def quiet(line: str) -> None:
    """The assessment is not listened to."""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    torch.manual_seed(3)
    card = ModelCard(name="test", version="1", mean=(0.4,) * 4, std=(0.2,) * 4)
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    artefact.write(onnx_of(fold(UNet().eval())), card, path)
    return Session.load(path)


def test_every_labelled_pixel_counts_once_and_a_collar_nowhere(
    session: Session, make_scene: MakeScene
) -> None:
    scene = make_scene(size=100)
    scene.image[:, :20] = 0
    table = assess(session, [scene], quiet)
    assert table.sum(axis=1).tolist() == [
        int((scene.label[20:] == value).sum()) for value in range(1, 7)
    ]


def test_classes_are_placed_by_nearest_neighbour() -> None:
    classes = np.arange(1, 5, dtype=np.uint8).reshape(2, 2)
    assert onto(classes, (4, 4)).tolist() == np.kron(classes, np.ones((2, 2), int)).tolist()
    assert (onto(classes, (2, 2)) == classes).all()


def test_the_report_names_every_class_and_its_pixels() -> None:
    reference = np.repeat(np.arange(1, 7, dtype=np.uint8), 1000)
    table = contingency(reference, reference, 6)
    card = ModelCard(
        name="test",
        version="1",
        mean=(0.4,) * 4,
        std=(0.2,) * 4,
        accuracy=(
            Assessment(
                name="nowhere",
                description="made",
                contingency=tuple(tuple(map(int, row)) for row in table),
            ),
        ),
    )
    page = markdown(card, "the command")
    assert "| nowhere | 6,000 | 100.0 % | 1.000 | 1.000 | 1.000 |" in page
    for c in card.legend.classes:
        assert f"| {c.name} | 1,000 | 100.0 % | 100.0 % | 100.0 % | 100.0 % |" in page
