"""The legend: consecutive values, so that channel i of the net is class i, and honest colors."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from model.legend import COLORMAPS, LEGEND, LandCoverClass, Legend, Rgb, rgb_of


def named(value: int, **fields: Any) -> LandCoverClass:  # noqa: ANN401
    words = {"name": f"class{value}", "title": f"Class {value}", "color_hint": "0A0B0C"}
    return LandCoverClass.model_validate({"value": value} | words | fields)


def test_the_six_classes_are_those_of_the_project() -> None:
    assert [(c.value, c.name, c.rgb) for c in LEGEND.classes] == [
        (1, "buildings", (0, 0, 0)),
        (2, "roads", (191, 191, 191)),
        (3, "water", (1, 176, 241)),
        (4, "bare", (255, 255, 49)),
        (5, "forest", (124, 215, 136)),
        (6, "planted", (234, 217, 236)),
    ]


@pytest.mark.parametrize("values", [(2,), (1, 3), (2, 1), (1, 1), (1, 2, 4)])
def test_values_count_up_from_one_without_gaps(values: tuple[int, ...]) -> None:
    classes = tuple(named(v, name=f"c{i}") for i, v in enumerate(values))
    with pytest.raises(ValidationError) as refusal:
        Legend(classes=classes)
    assert f"1..{len(values)}" in str(refusal.value)
    assert str(values) in str(refusal.value)


def test_values_one_two_three_make_a_legend() -> None:
    assert Legend(classes=(named(1), named(2), named(3))).values == (1, 2, 3)


def test_a_legend_has_at_least_one_class() -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        Legend(classes=())


def test_two_classes_never_share_a_name() -> None:
    with pytest.raises(ValidationError, match=r"must differ.*'twin', 'twin'"):
        Legend(classes=(named(1, name="twin"), named(2, name="twin")))


@pytest.mark.parametrize("value", [-1, 0, 255, 256])
def test_background_and_nodata_are_no_classes(value: int) -> None:
    with pytest.raises(ValidationError, match="value"):
        named(value)
    with pytest.raises(KeyError):
        LEGEND[value]


def test_a_class_is_found_by_its_value() -> None:
    for land_cover in LEGEND.classes:
        assert LEGEND[land_cover.value] is land_cover
    with pytest.raises(KeyError):
        LEGEND[7]


@pytest.mark.parametrize("color", ["12345", "1234567", "12345G", "abcdef", "#123456", ""])
def test_a_color_hint_is_six_upper_case_hex_digits(color: str) -> None:
    with pytest.raises(ValidationError, match="color_hint"):
        named(1, color_hint=color)


@pytest.mark.parametrize("name", ["Forest", "two words", "", "1st", "wälder"])
def test_a_class_name_is_machine_readable(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        named(1, name=name)


@pytest.mark.parametrize(
    ("color", "rgb"),
    [("#01B0F1", (1, 176, 241)), ("01b0f1", (1, 176, 241)), ("FFFFFF", (255, 255, 255))],
)
def test_a_color_is_read_with_and_without_its_hash(color: str, rgb: tuple[int, int, int]) -> None:
    assert rgb_of(color) == rgb


@pytest.mark.parametrize("color", ["red", "#12345", "##123456", "#1234567", "12 456", "123456\n"])
def test_what_is_no_color_is_refused_by_name(color: str) -> None:
    with pytest.raises(ValueError, match="is not a color") as refusal:
        rgb_of(color)
    assert repr(color) in str(refusal.value)


@pytest.mark.parametrize("colormap_name", list(COLORMAPS))
def test_every_colormap_tells_all_classes_apart(colormap_name: str) -> None:
    colors = LEGEND.colors(colormap_name)
    assert tuple(colors) == LEGEND.values
    assert len(set(colors.values())) == len(LEGEND.classes)
    assert all(0 <= level <= 255 for rgb in colors.values() for level in rgb)


# Machado, Oliveira & Fernandes (2009), doi 10.1109/TVCG.2009.113, severity 1.0, on linear RGB.
DEFICIENCIES = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def lab_of(rgb: Rgb, deficiency: str) -> npt.NDArray[np.float64]:
    """Return CIELAB (D65) of an sRGB color as it is seen with a color deficiency."""
    levels = np.array(rgb) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    to_xyz = ((0.41246, 0.35758, 0.18044), (0.21267, 0.71515, 0.07218), (0.01933, 0.11919, 0.95030))
    xyz = np.array(to_xyz) @ seen / (0.95047, 1, 1.08883)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("deficiency", list(DEFICIENCIES))
def test_any_two_classes_of_the_maps_colors_are_told_apart_by_everybody(deficiency: str) -> None:
    seen = {v: lab_of(rgb, deficiency) for v, rgb in LEGEND.colors("vivid").items()}
    apart = {(a, b): np.linalg.norm(seen[a] - seen[b]) for a, b in combinations(seen, 2)}
    assert min(apart.values()) > 25, min(apart, key=lambda pair: apart[pair])


def test_the_default_colors_are_the_legends_own() -> None:
    assert LEGEND.colors() == {c.value: c.rgb for c in LEGEND.classes}
    assert LEGEND.colors("colorblind") == COLORMAPS["colorblind"]


def test_a_class_a_colormap_does_not_know_keeps_its_own_color() -> None:
    seven = Legend(classes=(*LEGEND.classes, named(7)))
    assert seven.colors("colorblind") == COLORMAPS["colorblind"] | {7: (10, 11, 12)}


def test_an_unknown_colormap_is_refused() -> None:
    with pytest.raises(KeyError, match="viridis"):
        LEGEND.colors("viridis")


def test_the_stac_list_says_every_value_and_one_nodata() -> None:
    listed = LEGEND.stac()
    assert [entry["value"] for entry in listed] == [1, 2, 3, 4, 5, 6, 255]
    assert [entry.get("nodata", False) for entry in listed] == [False] * 6 + [True]
    for entry, land_cover in zip(listed, LEGEND.classes, strict=False):
        assert entry["name"] == land_cover.name
        assert entry["title"] == land_cover.title
        assert entry["color_hint"] == land_cover.color_hint
        # STAC: a description, where there is one, is not empty
        assert entry.get("description", "x")
    assert Legend(classes=tuple(LandCoverClass(**entry) for entry in listed[:-1])) == LEGEND


def test_a_legend_survives_its_journey_through_json() -> None:
    assert Legend.model_validate_json(LEGEND.model_dump_json()) == LEGEND
