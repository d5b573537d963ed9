"""A whole run as one TOML file: imagery, labels, and what differs from the defaults."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.config import Preset, load_preset
from training.errors import PresetError
from training.folds import SplitSettings
from training.labels import LabelSettings
from training.lattice import ChipSettings


class FitSettings(BaseModel):
    """`preset` names a preset of `training/presets` (or a .toml); every other key is one of its
    values, laid over it.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    preset: str = "default"
    begin: Path | None = None
    """Checkpoint whose weights to begin from."""

    county: Path | None = None
    """Folder of Demo County, to learn from beside one's own chips."""

    def chosen(self) -> Preset:
        """Raises PresetError naming a value that cannot be."""
        return load_preset(self.preset, **(self.model_extra or {}))


class EvaluateSettings(BaseModel):
    """The assessment on the test's ground."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: Annotated[int, Field(ge=0)] = 24
    """Scenes shown on the page, worst first."""


class Recipe(BaseModel):
    """Paths are relative to the folder of the TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    imagery: Path
    """An image, or a folder of them."""

    labels: LabelSettings
    chips: ChipSettings = ChipSettings()
    split: SplitSettings = SplitSettings()
    fit: FitSettings = FitSettings()
    evaluate: EvaluateSettings = EvaluateSettings()

    attribution: str = ""
    """Whose imagery and labels these are: it travels in the model file."""

    threads: Annotated[int, Field(ge=1)] = 2


def load_recipe(path: Path) -> Recipe:
    """Raises PresetError naming the value that cannot be."""
    if not path.is_file():
        raise PresetError(f"no run at {path}")
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        here = path.parent
        _place(values, "imagery", here)
        _place(values.get("labels", {}), "source", here)
        for section, key in (("labels", "crosswalk"), ("fit", "preset")):
            if str(values.get(section, {}).get(key, "")).endswith(".toml"):
                _place(values[section], key, here)
        for key in ("begin", "county"):
            _place(values.get("fit", {}), key, here)
        found = Recipe.model_validate(values)
    except (tomllib.TOMLDecodeError, ValidationError, UnicodeDecodeError, TypeError) as error:
        raise PresetError(f"run {path}: {error}") from error
    found.fit.chosen()
    return found


def _place(values: dict[str, Any], key: str, folder: Path) -> None:
    if key in values:
        values[key] = str(folder / values[key])
