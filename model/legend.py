"""What the values of a class raster mean, and in which colors they are drawn.

Field names follow STAC `classification:classes` (value, name, title, color_hint, nodata).
0 is background: unlabeled in training, never a prediction. 255 is nodata.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

BACKGROUND = 0
NODATA = 255

Rgb = tuple[int, int, int]
HexColor = Annotated[str, StringConstraints(pattern=r"^[0-9A-F]{6}$")]
ClassName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")]


class LandCoverClass(BaseModel):
    """One class of a legend, in the words of STAC `classification:classes`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: int = Field(ge=1, le=254, description="pixel value")
    name: ClassName = Field(description="short machine-readable name")
    title: str = Field(min_length=1, description="name for people")
    description: str = ""
    color_hint: HexColor = Field(description="RRGGBB, upper case")

    @property
    def rgb(self) -> Rgb:
        """Return the class color, (red, green, blue) in 0..255."""
        return rgb_of(self.color_hint)


class Legend(BaseModel):
    """The classes of one model, consecutive from 1: channel i of the network is class i."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[LandCoverClass, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consecutive(self) -> Self:
        values = self.values
        if values != tuple(range(1, len(values) + 1)):
            raise ValueError(f"class values must be 1..{len(values)} in order, got {values}")
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names):
            raise ValueError(f"class names must differ, got {names}")
        return self

    @cached_property
    def values(self) -> tuple[int, ...]:
        """Return the pixel values, ascending."""
        return tuple(c.value for c in self.classes)

    def __getitem__(self, value: int) -> LandCoverClass:
        """Return the class of a pixel value; KeyError for background, nodata and unknown values."""
        if value not in self.values:
            raise KeyError(value)
        return self.classes[value - 1]

    def colors(self, colormap_name: str = "landcover") -> dict[int, Rgb]:
        """Return {value: (red, green, blue)}; KeyError when the colormap is unknown.

        `landcover` is the legend's own colors; another colormap falls back to them for a
        value it does not know.
        """
        colors = {} if colormap_name == "landcover" else COLORMAPS[colormap_name]
        return {c.value: colors.get(c.value, c.rgb) for c in self.classes}

    def stac(self) -> list[dict[str, Any]]:
        """Return the `classification:classes` of STAC, nodata entry included."""
        listed = [c.model_dump(exclude_defaults=True) for c in self.classes]
        return [*listed, {"value": NODATA, "name": "nodata", "title": "No data", "nodata": True}]


def rgb_of(color: str) -> Rgb:
    """Parse `RRGGBB` or `#RRGGBB` as (red, green, blue); ValueError otherwise."""
    if not re.fullmatch(r"#?[0-9A-Fa-f]{6}", color):
        raise ValueError(f"{color!r} is not a color of the form #RRGGBB")
    digits = color.removeprefix("#")
    return int(digits[0:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)


# The color-blind-safe colormap: hues after Okabe & Ito (2008), "Color Universal Design".
COLORMAPS: dict[str, dict[int, Rgb]] = {
    "landcover": {},
    "colorblind": {
        1: (0, 0, 0),
        2: (153, 153, 153),
        3: (0, 114, 178),
        4: (230, 159, 0),
        5: (0, 158, 115),
        6: (240, 228, 166),
    },
    # Colors that read at once: red roofs, gray roads, blue water, tan soil, dark woods, pale lawn.
    # Any two stay 25 CIELAB units apart for all three kinds of color deficiency.
    "vivid": {
        1: (204, 61, 30),
        2: (142, 142, 148),
        3: (49, 140, 212),
        4: (241, 206, 166),
        5: (24, 76, 52),
        6: (168, 222, 92),
    },
    # The colors of the National Land Cover Database (MRLC) for what comes nearest: developed high
    # and low intensity, open water, barren land, deciduous forest, pasture/hay.
    "nlcd": {
        1: (171, 0, 0),
        2: (217, 146, 130),
        3: (70, 107, 159),
        4: (179, 172, 159),
        5: (104, 171, 95),
        6: (220, 217, 57),
    },
}

LEGEND = Legend(
    classes=(
        LandCoverClass(value=1, name="buildings", title="Buildings", color_hint="000000"),
        LandCoverClass(value=2, name="roads", title="Roads or parking lots", color_hint="BFBFBF"),
        LandCoverClass(value=3, name="water", title="Water", color_hint="01B0F1"),
        LandCoverClass(
            value=4,
            name="bare",
            title="Harvested, open or bare land",
            description="soil, sand, dirt roads, dry grass and stubble",
            color_hint="FFFF31",
        ),
        LandCoverClass(
            value=5,
            name="forest",
            title="Forest",
            description="trees and tall shrubs",
            color_hint="7CD788",
        ),
        LandCoverClass(
            value=6,
            name="planted",
            title="Planted or dark cropland",
            description="any low green vegetation: lawn, pasture, green crops",
            color_hint="EAD9EC",
        ),
    )
)
