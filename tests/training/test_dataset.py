"""Crops: repeatable, balanced, and never with a label that the ground does not have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")

from model.card import ModelCard  # noqa: E402
from training.augment import radiometry, resize, resize_scene, turn  # noqa: E402
from training.config import Preset  # noqa: E402
from training.dataset import Crops  # noqa: E402
from training.errors import LabelError  # noqa: E402
from training.scenes import Scene  # noqa: E402

pytestmark = pytest.mark.torch

MakeScene = Callable[..., Scene]

PLAIN = Preset(
    name="plain",
    crop=64,
    batch=4,
    zoom=(1.0, 1.0),
    gain=(1.0, 1.0),
    band_gain=(1.0, 1.0),
    offset=(0.0, 0.0),
    gamma=(1.0, 1.0),
    noise=(0.0, 0.0),
    blur=0.0,
)
CARD = ModelCard(name="test", version="1", mean=(0.0,) * 4, std=(1.0,) * 4)


def test_a_step_draws_the_same_crops_whenever_it_is_asked(make_scene: MakeScene) -> None:
    scenes = [make_scene(seed=i, place=f"p{i}") for i in range(3)]
    preset = Preset(name="test", crop=64)
    first, again = Crops(scenes, preset, CARD), Crops(scenes, preset, CARD)
    first.batch(0)
    (image, label), (image_again, label_again) = first.batch(7), again.batch(7)
    assert np.array_equal(image, image_again)
    assert np.array_equal(label, label_again)
    assert not np.array_equal(first.batch(8)[0], first.batch(7)[0])


def test_a_batch_is_standardised_by_the_card(make_scene: MakeScene) -> None:
    images, labels = Crops([make_scene()], PLAIN, CARD).batch(0)
    assert images.shape == (4, 4, 64, 64)
    assert images.dtype == np.float32
    assert labels.shape == (4, 64, 64)
    assert labels.dtype == np.int64
    levels = images * 255
    assert np.allclose(levels, np.rint(levels), atol=1e-4)


def test_labels_stay_on_their_pixels(make_scene: MakeScene) -> None:
    scene = make_scene()
    red = np.where(scene.label > 0, scene.label * 40, 0).astype(np.uint8)
    marked = Scene(**{**scene.__dict__, "image": np.stack([red] * 4)})
    images, labels = Crops([marked], PLAIN, CARD).batch(3)
    assert (np.rint(images[:, 0] * 255) == labels * 40).all()


def test_ground_beyond_a_scene_is_unlabelled(make_scene: MakeScene) -> None:
    small = make_scene(size=48)
    images, labels = Crops([small], PLAIN, CARD).batch(0)
    assert images.shape == (4, 4, 64, 64)
    assert ((labels > 0).sum(axis=(1, 2)) <= 48 * 48).all()
    assert (labels > 0).any()


def test_a_rare_class_is_drawn_as_often_as_the_others(make_scene: MakeScene) -> None:
    scene = make_scene(size=512)
    label = np.where(scene.label == 3, 0, scene.label)
    label[:8, :8] = 3
    rare = Scene(**{**scene.__dict__, "label": label.astype(np.uint8)})
    preset = PLAIN.model_copy(update={"crop": 32})
    drawn = [Crops([rare], preset, CARD).batch(i)[1] for i in range(30)]
    share = np.mean([(crop == 3).any() for batch in drawn for crop in batch])
    assert share > 0.1  # evenly over the ground it would be 0.006


def test_no_labelled_pixel_is_refused(make_scene: MakeScene) -> None:
    scene = make_scene()
    empty = Scene(**{**scene.__dict__, "label": np.zeros_like(scene.label)})
    with pytest.raises(LabelError, match="1 training scenes"):
        Crops([empty], PLAIN, CARD)


def test_turns_move_image_and_label_together(make_scene: MakeScene) -> None:
    scene = make_scene(size=32)
    image = np.stack([scene.label] * 4)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(64):
        turned, label = turn(image, scene.label, rng)
        assert (turned == label).all()
        seen.add(label.tobytes())
    assert len(seen) == 8


def test_zoom_invents_no_label(make_scene: MakeScene) -> None:
    scene = make_scene(size=64)
    label = np.where(scene.label > 3, 6, 1).astype(np.uint8)
    for size in (40, 64, 100):
        image, resized = resize(scene.image, label, size)
        assert image.shape == (4, size, size)
        assert image.dtype == np.uint8
        assert set(np.unique(resized)) == {1, 6}


def test_a_scene_is_read_at_another_resolution_by_size(make_scene: MakeScene) -> None:
    image, label = resize_scene(make_scene(size=256, resolution=0.6), 1.0)
    assert image.shape == (4, 154, 154)
    assert label.shape == (154, 154)


def test_radiometry_without_jitter_changes_nothing(make_scene: MakeScene) -> None:
    image = make_scene().image
    assert (radiometry(image, PLAIN, np.random.default_rng(0)) == image).all()


def test_radiometry_stays_in_uint8(make_scene: MakeScene) -> None:
    image = make_scene().image
    wild = Preset(name="wild", gain=(3.0, 3.0), offset=(-90.0, 90.0))
    out = radiometry(image, wild, np.random.default_rng(0))
    assert out.dtype == np.uint8
    assert out.shape == image.shape
