"""A complete run as one TOML file: imagery, labels, and changes to the defaults."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from model.legend import LEGEND
from training.config import Preset, load_preset
from training.config.base import StrictModel
from training.config.legend import DEFAULT_BANDS, Bands, OwnLegend
from training.data.chip_splits import SplitSettings
from training.data.chips import ChipSettings
from training.data.labels import LabelSettings
from training.errors import PresetError


class FitSettings(BaseModel):
    """Settings of the training step. `preset` names a preset of `training/config/presets` (or a
    .toml); every other key overrides one of its values.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    preset: str = "default"
    init_from: Annotated[
        Path | None, Field(validation_alias=AliasChoices("init_from", "begin"))
    ] = None
    """Checkpoint whose weights to start from (until version 0.3 also: begin)."""

    county: Path | None = None
    """Folder of Demo County, to train on as well."""

    def resolved_preset(self) -> Preset:
        """Return the preset with its changes. Raises PresetError naming an invalid value."""
        return load_preset(self.preset, **(self.model_extra or {}))


class EvaluateSettings(StrictModel):
    """Settings of the evaluation on the test's ground."""

    pictures: Annotated[int, Field(ge=0)] = 24
    """Scenes shown on the page, least accurate first."""


class ExportSettings(StrictModel):
    """Files made beside the model file."""

    int8: bool = False
    """Also `landcover.int8.onnx`, calibrated on the training chips."""

    esri: bool = False
    """Also the files for ArcGIS Pro, in the folder `esri`."""

    deepness: bool = False
    """Also `landcover.deepness.onnx`, for the panel of the QGIS plugin Deepness."""

    stac: bool = False
    """Also `landcover.stac.json`, a STAC item of the model (machine-learning-model extension)."""


class Recipe(StrictModel):
    """A run. Paths are relative to the folder of the TOML file."""

    imagery: Path
    """An image, or a folder of them."""

    labels: LabelSettings
    chips: ChipSettings = ChipSettings()
    split: SplitSettings = SplitSettings()
    fit: FitSettings = FitSettings()
    export: ExportSettings = ExportSettings()
    evaluate: EvaluateSettings = EvaluateSettings()

    legend: OwnLegend = LEGEND
    """The classes; by default the six of NAIP land cover."""

    bands: Bands = DEFAULT_BANDS
    """Names of the first bands of every image, in their order."""

    attribution: str = ""
    """Source of imagery and labels, which the model file states."""

    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads; by default as many as are fastest, measured at the start of the training."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: a GPU where there is one."""

    tensorboard: bool = False
    """Also curves for TensorBoard, in `fit/tensorboard` (extra `tensorboard`)."""

    def preset(self) -> Preset:
        """Return the preset with the run's changes, legend and bands."""
        return self.fit.resolved_preset().model_copy(
            update={"legend": self.legend, "bands": self.bands}
        )


def load_recipe(path: Path) -> Recipe:
    """Read a run. Raises PresetError naming an invalid value."""
    if not path.is_file():
        raise PresetError(f"no run at {path}")
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        here = path.parent
        _resolve(values, "imagery", here)
        _resolve(values.get("labels", {}), "source", here)
        corrections = values.get("labels", {}).get("corrections")
        if isinstance(corrections, list):
            values["labels"]["corrections"] = [str(here / path) for path in corrections]
        for section, key in (("labels", "crosswalk"), ("fit", "preset")):
            if str(values.get(section, {}).get(key, "")).endswith(".toml"):
                _resolve(values[section], key, here)
        for key in ("init_from", "begin", "county"):
            _resolve(values.get("fit", {}), key, here)
        result = Recipe.model_validate(values)
    except (tomllib.TOMLDecodeError, ValidationError, UnicodeDecodeError, TypeError) as error:
        raise PresetError(f"run {path}: {error}") from error
    result.fit.resolved_preset()
    return result


def _resolve(values: dict[str, Any], key: str, folder: Path) -> None:
    if key in values:
        values[key] = str(folder / values[key])
