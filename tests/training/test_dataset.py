"""Crops: repeatable, balanced, and never with a label that the ground does not have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="needs torch: make setup TRAIN=1")

from model.card import ModelCard  # noqa: E402
from training.config import Preset  # noqa: E402
from training.data.augment import leaf_off, photometric, random_dihedral, resize, resize_scene  # noqa: E402
from training.data.crops import Crops, batches  # noqa: E402
from training.data.scenes import Scene  # noqa: E402
from training.errors import LabelError  # noqa: E402

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
    drawn: tuple[NDArray[Any], ...] = first.batch(7)
    redrawn: tuple[NDArray[Any], ...] = again.batch(7)
    for one, other in zip(drawn, redrawn, strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(first.batch(8)[0], first.batch(7)[0])


def test_a_batch_is_standardized_by_the_card(make_scene: MakeScene) -> None:
    images, labels, uncertain = Crops([make_scene()], PLAIN, CARD).batch(0)
    assert images.shape == (4, 4, 64, 64)
    assert images.dtype == np.float32
    assert labels.shape == (4, 64, 64)
    assert labels.dtype == np.int64
    assert uncertain.shape == (4, 64, 64)
    assert not uncertain.any()
    levels = images * 255
    assert np.allclose(levels, np.rint(levels), atol=1e-4)


def test_labels_stay_on_their_pixels(make_scene: MakeScene) -> None:
    scene = make_scene()
    red = np.where(scene.label > 0, scene.label * 40, 0).astype(np.uint8)
    marked = Scene(**{**scene.__dict__, "image": np.stack([red] * 4)})
    images, labels, _ = Crops([marked], PLAIN, CARD).batch(3)
    assert (np.rint(images[:, 0] * 255) == labels * 40).all()


def test_ground_beyond_a_scene_is_unlabeled(make_scene: MakeScene) -> None:
    small = make_scene(size=48)
    images, labels, _ = Crops([small], PLAIN, CARD).batch(0)
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


def test_a_label_of_another_year_is_marked_and_drawn_as_seldom_as_it_weighs(
    make_scene: MakeScene,
) -> None:
    own = make_scene(name="own")
    other = replace(make_scene(name="other"), transferred=True)
    crops = Crops([own, other], PLAIN.model_copy(update={"transferred_weight": 0.25}), CARD)
    marked = [bool(d.all()) for i in range(100) for d in crops.batch(i)[2]]
    assert 0.26 < np.mean(marked) < 0.41  # sqrt(1/4) against 1: a third
    never = Crops([own, other], PLAIN.model_copy(update={"transferred_weight": 0.0}), CARD)
    assert not any(never.batch(i)[2].any() for i in range(20))


def test_a_collage_is_ground_at_a_coarse_resolution(make_scene: MakeScene) -> None:
    scene = make_scene(size=512)
    fields = np.random.default_rng(0).integers(1, 7, (32, 32), dtype=np.uint8)
    fields = np.kron(fields, np.ones((16, 16), np.uint8))
    marked = replace(scene, image=np.stack([fields * np.uint8(40)] * 4), label=fields)
    preset = PLAIN.model_copy(update={"coarse_share": 1.0, "coarse": (4.0, 4.0)})
    images, labels, _ = Crops([marked], preset, CARD).batch(0)
    assert images.shape == (4, 4, 64, 64)
    inside = labels[:, :38, :38]  # one piece; others follow
    fine = Crops([marked], PLAIN, CARD).batch(0)[1]
    borders, fine_borders = ((x[:, 1:] != x[:, :-1]).mean() for x in (inside, fine))
    assert 3 < borders / fine_borders < 6  # four times the ground in a pixel


def test_batches_are_those_drawn_on_demand(
    make_scene: MakeScene,
) -> None:
    crops = Crops([make_scene()], PLAIN, CARD)
    ahead = list(batches(crops, 3, 6))
    assert len(ahead) == 3
    for step, batch in enumerate(ahead, start=3):
        assert all(
            np.array_equal(np.asarray(a), np.asarray(b))
            for a, b in zip(batch, crops.batch(step), strict=True)
        )
    assert list(batches(crops, 6, 6)) == []


def test_no_labeled_pixel_is_refused(make_scene: MakeScene) -> None:
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
        turned, label = random_dihedral(image, scene.label, rng)
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
    assert (photometric(image, PLAIN, np.random.default_rng(0)) == image).all()


def test_the_contrast_of_near_infrared_turns_about_a_level_between_roofs_and_lawns() -> None:
    image = np.empty((4, 16, 64), np.uint8)
    image[:] = np.linspace(10, 240, 64).astype(np.uint8)
    steep = PLAIN.model_copy(update={"infrared_contrast": (1.6, 1.6)})
    changed = photometric(image, steep, np.random.default_rng(0))
    assert (changed[:3] == image[:3]).all()
    before, after = image[3, 0].astype(int), changed[3, 0].astype(int)
    assert (after[before < 145] < before[before < 145]).all()
    assert (after[before > 155] > before[before > 155]).all()
    assert (np.diff(after) >= 0).all()


def test_dormant_ground_loses_its_green_and_no_label_but_that_of_low_vegetation() -> None:
    """Summer forest (70, 100, 110, 180) and lawn left, asphalt right: asphalt stays as it is."""
    image = np.empty((4, 64, 64), np.uint8)
    image[:, :, :32] = np.array([70, 100, 110, 180], np.uint8)[:, None, None]
    image[:, :, 32:] = np.array([120, 122, 121, 100], np.uint8)[:, None, None]
    label = np.full((64, 64), 5, np.uint8)
    label[:32], label[:, 32:] = 6, 2
    for seed in range(20):
        changed, kept = leaf_off(image, label, np.random.default_rng(seed))
        assert (changed[:, :, 32:] == image[:, :, 32:]).all()
        red, infrared = (changed[b, :, :32].astype(int) for b in (0, 3))
        assert (infrared <= 180).all()
        assert (red >= 70).all()
        assert (infrared - red).mean() < 100 < 180 - 70
        assert (kept[32:, :32] == 5).all()
        assert (kept[:, 32:] == 2).all()
        assert set(np.unique(kept[:32, :32])) <= {0, 6}
    assert (label[:32, :32] == 6).all()  # the scene's own label is not touched


def test_radiometry_stays_in_uint8(make_scene: MakeScene) -> None:
    image = make_scene().image
    wild = Preset(name="wild", gain=(3.0, 3.0), offset=(-90.0, 90.0))
    out = photometric(image, wild, np.random.default_rng(0))
    assert out.dtype == np.uint8
    assert out.shape == image.shape
