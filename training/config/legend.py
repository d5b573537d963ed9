"""A legend of one's own, as a run's TOML describes it.

[legend]
classes = [
    { value = 1, name = "roof", title = "Roofs", color = "#8c1d18" },
    { value = 2, name = "water", title = "Open water", color = "#01b0f1" },
]
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from model.card import ModelCard
from model.legend import LEGEND, Legend
from training.errors import PresetError

DEFAULT_BANDS: tuple[str, ...] = ModelCard.model_fields["bands"].default
"""Red, green, blue, nir."""

MIN_CLASSES, MAX_CLASSES = 2, 16


def _of_toml(value: Any) -> Any:  # noqa: ANN401 (whatever a TOML file holds)
    """Return the legend as the model card writes it: `color_hint` instead of `color`, a title for
    every class, in the order of the values."""
    if isinstance(value, Legend):
        return value
    classes = value.get("classes") if isinstance(value, dict) else value
    if not isinstance(classes, list | tuple) or not all(isinstance(c, dict) for c in classes):
        raise ValueError("give classes = [{ value = 1, name = …, title = …, color = … }, …]")
    result = []
    for given in classes:
        entry = dict(given)
        if "color" in entry:
            entry["color_hint"] = str(entry.pop("color")).removeprefix("#").upper()
        entry.setdefault("title", str(entry.get("name", "")).replace("_", " ").capitalize())
        result.append(entry)
    return {"classes": sorted(result, key=lambda entry: str(entry.get("value", "")).zfill(4))}


def _of_some_size(legend: Legend) -> Legend:
    if not MIN_CLASSES <= len(legend.classes) <= MAX_CLASSES:
        raise ValueError(
            f"a legend has {MIN_CLASSES} to {MAX_CLASSES} classes, this one {len(legend.classes)}"
        )
    return legend


def _distinct(bands: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(bands)) < len(bands):
        raise ValueError(f"the names of bands must differ, got {bands}")
    return bands


OwnLegend = Annotated[Legend, BeforeValidator(_of_toml), AfterValidator(_of_some_size)]
"""The classes of a run: 2 to 16, values from 1 without a gap."""

Bands = Annotated[tuple[str, ...], Field(min_length=3, max_length=8), AfterValidator(_distinct)]
"""The names of the first bands of every image, in their order: 3 to 8."""


def read_legend(path: Path) -> Legend:
    """Read a legend from a TOML file: a run's, or one with `classes` alone. Raises PresetError."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(OwnLegend).validate_python(values.get("legend", values))
    except (OSError, ValueError) as error:
        raise PresetError(f"legend {path}: {error}") from error


def read_bands(text: str) -> tuple[str, ...]:
    """Return the names in `red,green,blue`. Raises PresetError."""
    try:
        return TypeAdapter(Bands).validate_python([name.strip() for name in text.split(",")])
    except ValueError as error:
        raise PresetError(f"bands {text!r}: {error}") from error


def is_default(legend: Legend, bands: tuple[str, ...]) -> bool:
    """Return whether legend and bands are those of NAIP land cover, which Demo County and the
    labels of other years have."""
    return legend == LEGEND and bands == DEFAULT_BANDS
