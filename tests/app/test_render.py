"""Every form of a tile shows the same values; what the palette leaves out is transparent."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from app.render.images import Palette, npy, render, shown_values
from model.legend import COLORMAPS, LEGEND, NODATA
from tests.app.conftest import Classes, classes_in

FORMATS = ("png", "webp", "npy")


def every_class(size: int = 256) -> Classes:
    """uint8 (size, size): all classes and nodata, a column of each, then noise."""
    values = np.array([*LEGEND.values, NODATA], dtype=np.uint8)
    array = np.random.default_rng(1).choice(values, size=(size, size))
    array[:, : len(values)] = values
    return array


def palette_of(name: str = "landcover", shown: frozenset[int] | None = None) -> Palette:
    return Palette.of_classes(LEGEND, LEGEND.colors(name), shown)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("size", [256, 512, 1024])
def test_every_value_comes_back_from_every_format(suffix: str, size: int) -> None:
    array = every_class(size)
    assert np.array_equal(classes_in(render(array, palette_of(), suffix), suffix), array)


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_left_out_is_nodata_and_the_rest_is_as_it_was(suffix: str) -> None:
    array = every_class()
    shown = frozenset({2, 5})
    found = classes_in(render(array, palette_of(shown=shown), suffix), suffix)
    assert np.array_equal(found, np.where(np.isin(array, [2, 5]), array, NODATA))


@pytest.mark.parametrize("suffix", FORMATS)
def test_nothing_is_shown_when_no_class_is(suffix: str) -> None:
    content = render(every_class(), palette_of(shown=frozenset()), suffix)
    assert (classes_in(content, suffix) == NODATA).all()


def test_a_png_is_palette_indexed_and_its_indexes_are_the_values() -> None:
    array = every_class()
    image = Image.open(io.BytesIO(render(array, palette_of(), "png")))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), array)


@pytest.mark.parametrize("name", COLORMAPS)
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_a_class_has_the_color_of_the_legend_and_nodata_none(name: str, suffix: str) -> None:
    array = every_class()
    image = Image.open(io.BytesIO(render(array, palette_of(name), suffix)))
    pixels = np.asarray(image.convert("RGBA"))
    for value, color in LEGEND.colors(name).items():
        assert (pixels[array == value] == (*color, 255)).all()
    assert (pixels[array == NODATA][:, 3] == 0).all()


def test_npy_is_the_values_in_one_band() -> None:
    array = every_class()
    found = np.load(io.BytesIO(npy(array)), allow_pickle=False)
    assert (found.shape, found.dtype) == ((1, 256, 256), np.uint8)
    assert np.array_equal(found[0], array)


def test_confidence_has_a_color_for_every_per_cent_and_none_beyond() -> None:
    table = Palette.of_confidence().rgba()
    assert (table[:101, 3] == 255).all()
    assert (table[101:] == 0).all()
    assert len(np.unique(table[:101], axis=0)) == 101
    luminance = table[:101, :3] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > -0.6).all()
    values = np.arange(256, dtype=np.uint8)[None]
    kept = shown_values(values, Palette.of_confidence())[0]
    assert np.array_equal(kept[:101], values[0, :101])
    assert (kept[101:] == NODATA).all()
