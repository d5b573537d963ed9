"""Normalization, written once in the code and twice more here, by its formula and by another's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from model.card import ModelCard
from model.errors import ImageError
from model.normalize import normalize

EVERY_LEVEL = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), (4, 1, 1))
UNIT = st.floats(0, 1, allow_nan=False)
SPREAD = st.floats(0.01, 1, allow_nan=False)


def card(mean: tuple[float, ...], std: tuple[float, ...]) -> ModelCard:
    return ModelCard(name="n", version="1", mean=mean, std=std)


PLAIN = card((0.45, 0.48, 0.42, 0.52), (0.21, 0.17, 0.19, 0.25))


@given(mean=st.tuples(*[UNIT] * 4), std=st.tuples(*[SPREAD] * 4))
def test_every_level_of_every_band_is_the_formula_rounded_once(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    levels = EVERY_LEVEL.astype(np.float64)
    for band in range(4):
        levels[band] = (levels[band] / 255 - mean[band]) / std[band]
    assert np.array_equal(normalize(EVERY_LEVEL, card(mean, std)), levels.astype(np.float32))


@given(mean=st.tuples(*[UNIT] * 4), std=st.tuples(*[SPREAD] * 4))
def test_deepness_feeds_the_model_the_same_numbers(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    """QGIS Deepness scales by 1/255, then subtracts mean and divides by std, all in float32."""
    batch = EVERY_LEVEL.astype(np.float32) * np.float32(1 / 255)
    for band in range(4):
        batch[band] = (batch[band] - np.float32(mean[band])) / np.float32(std[band])
    smallest = np.float32(min(std))
    assert np.allclose(normalize(EVERY_LEVEL, card(mean, std)), batch, rtol=0, atol=5e-7 / smallest)


@given(
    image=arrays.arrays(
        np.uint8, st.tuples(st.just(4), st.integers(1, 9), st.integers(1, 9)), fill=st.nothing()
    )
)
def test_each_pixel_of_each_band_is_normalized_by_itself(image: npt.NDArray[np.uint8]) -> None:
    out = normalize(image, PLAIN)
    assert out.shape == image.shape
    assert out.dtype == np.float32
    for place in np.ndindex(image.shape):
        band = place[0]
        expected = (image[place] / 255 - PLAIN.mean[band]) / PLAIN.std[band]
        assert out[place] == np.float32(expected)


def test_a_view_of_an_image_becomes_a_contiguous_batch() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 4), dtype=np.uint8)
    view = image.transpose(2, 0, 1)[:, ::2, ::-1]
    out = normalize(view, PLAIN)
    assert out.flags.c_contiguous
    assert np.array_equal(out, normalize(np.ascontiguousarray(view), PLAIN))


def test_the_image_itself_is_left_alone() -> None:
    image = EVERY_LEVEL.copy()
    normalize(image, PLAIN)
    assert np.array_equal(image, EVERY_LEVEL)


@pytest.mark.parametrize("dtype", ["uint16", "int8", "int16", "float32", "float64", "bool"])
def test_imagery_of_another_dtype_is_refused_by_name(dtype: str) -> None:
    image: Any = np.zeros((4, 8, 8), dtype=dtype)
    with pytest.raises(ImageError, match=f"must be uint8, got {dtype}"):
        normalize(image, PLAIN)


@pytest.mark.parametrize("shape", [(3, 8, 8), (5, 8, 8), (8, 8, 4), (8, 8), (1, 4, 8, 8)])
def test_imagery_of_another_shape_is_refused_by_name(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="with 4 bands, got") as refusal:
        normalize(np.zeros(shape, dtype=np.uint8), PLAIN)
    assert str(shape) in str(refusal.value)
