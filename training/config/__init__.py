"""Presets: every number of a training run, typed, with its reason.

A preset is a TOML file in `training/config/presets`; it names only what differs from the defaults
below. The run folder keeps the full preset, so a run can be repeated from it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from model.legend import LEGEND
from training.config.base import StrictModel
from training.config.legend import DEFAULT_BANDS, Bands, OwnLegend
from training.errors import PresetError

PRESETS = Path(__file__).parent / "presets"

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Range = tuple[float, float]

Activation = Literal["relu", "elu"]
Precision = Literal["auto", "float32", "bfloat16"]
NetworkName = Literal["unet", "fast", "efficientnet_lite0"]

POSITIVE_RANGES = (
    "zoom", "coarse", "gain", "band_gain", "gamma", "band_gamma", "infrared_contrast",
)  # fmt: skip
RANGES = (*POSITIVE_RANGES, "offset", "noise")

OLD_KEYS = {
    "made_share": "synthetic_share",
    "made_held_out": "synthetic_held_out",
    "made_core_m": "synthetic_core_m",
    "made_validation": "synthetic_validation",
    "made_strip_m": "synthetic_strip_m",
    "doubt": "noise_threshold",
    "doubt_after": "noise_after",
    "own_coarse": "distill_coarse",
    "dormant_share": "leaf_off_share",
}
"""Former names of keys, still read from presets and checkpoints; they go with version 0.3."""

OLD_PRESETS = {"made": "synthetic"}
"""Former names of presets, still accepted; they go with version 0.3."""


class Preset(StrictModel):
    """One training run. Lengths are meters on the ground where the name ends in `_m`."""

    name: str
    """Name of the run; it travels into the model card."""

    seed: int = 20261123
    """Every random number of the run follows from it and from the step's number."""

    network: NetworkName = "unet"
    """`fast`: a smaller network (network/fast.py). `efficientnet_lite0`: a teacher
    (network/teacher.py), which is never exported."""

    encoder_rate: Positive = 1.0
    """Learning rate of a teacher's pretrained encoder, relative to `learning_rate`."""

    distill: Share = 0.0
    """Weight of the teachers' probabilities in the loss, on every pixel; the labels have the
    rest."""

    distill_flip: bool = True
    """Average the teachers' probabilities over a flip of the crop, which doubles what they cost."""

    unlabeled_share: Share = 0.0
    """Share of the crops that come from unlabeled imagery, of which the teachers alone say what it
    is."""

    activation: Activation = "relu"
    """ReLU serves 1.3 times faster than the article's ELU, which ONNX Runtime does not fuse."""

    batch_norm: bool = True
    """Trains several times faster; folded into the convolutions at export, so it costs nothing."""

    dropout: tuple[Share, Share, Share, Share, Share] = (0.1, 0.1, 0.2, 0.2, 0.3)
    """Between the two convolutions of each level, from the finest to the bottom (the article's)."""

    ground_resolution_m: Positive = 1.0
    """The resolution at which the model is served: the NAIP standard until 2017."""

    bands: Bands = DEFAULT_BANDS
    """Names of the first bands of every image, in their order."""

    legend: OwnLegend = LEGEND
    """The classes of the labels and of the model."""

    crop: Annotated[int, Field(ge=32, multiple_of=16)] = 128
    """Side of a training crop in pixels: a chip is only 154 m wide."""

    batch: Annotated[int, Field(ge=1)] = 8
    """Crops per step."""

    steps: Annotated[int, Field(ge=1)] = 3500
    """Length of the run: about an hour on two shared cores."""

    warmup: Annotated[int, Field(ge=0)] = 100
    """Steps of linear rise of the learning rate: batch norm's first statistics are wild."""

    decay: Share = 0.35
    """Share of the steps, at the end, in which the learning rate falls to zero along a half cosine.
    Before that it is constant, so a run can be shortened or extended until the decay begins."""

    learning_rate: Positive = 2e-3
    """Of AdamW; twice the article's, because batch norm allows it and the run is short."""

    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """Strong, because there are only about 100 labeled chips."""

    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay of the exponential moving average of the weights, which is what is evaluated and
    exported. 0: off."""

    precision: Precision = "auto"
    """Of the products while training; weights, loss and optimizer are float32 in any case. `auto`:
    bfloat16 where the device has it and it is faster, as measured at the start of the run."""

    label_smoothing: Share = 0.05
    """Superpixels spill over edges: several percent of the labels are wrong at borders."""

    class_weights: Literal["none", "inverse_sqrt"] = "inverse_sqrt"
    """By the pixels each class has in the training scenes, to the power -1/2, mean 1."""

    max_class_weight: Positive = 2.5
    """Rare classes are already sampled more often; a larger weight would over-predict them."""

    synthetic_share: Share = 0.4
    """Share of the crops that come from Demo County and Demo City; the others are real."""

    even_places: Share = 0.5
    """Share of the crops whose place is drawn uniformly; for the others the class is drawn
    first."""

    transferred_weight: Annotated[float, Field(ge=0)] = 0.5
    """Sampling weight of a scene of another year, relative to one of the year that the label was
    drawn for."""

    transferred_erosion: Annotated[int, Field(ge=0)] = 2
    """Pixels around a class border that are unlabeled in another year: NAIP's years are
    misregistered by up to several meters."""

    noise_threshold: Share = 0.05
    """A transferred label to which the network gives less than this probability is ignored: the
    ground may have changed (small-loss selection, Han et al. 2018)."""

    noise_after: Annotated[int, Field(ge=0)] = 250
    """Steps before the threshold applies: early predictions are too poor to filter labels."""

    coarse_share: Share = 0.0
    """Share of the crops that are mosaics of ground read at a coarse resolution, so that the same
    network can classify overviews."""

    distill_coarse: bool = False
    """Label coarse crops with the mode of the classes that the initial checkpoint predicts at the
    served resolution (network/inference.py), at 2, 4 and 8 times that resolution; otherwise with
    the reference labels, at a resolution from `coarse`."""

    coarse: Range = (1.6, 6.0)
    """Ground meters per pixel of coarse crops, log-uniform."""

    clean: Share = 0.0
    """Share of the crops without photometric augmentation: served imagery has none."""

    leaf_off_share: Share = 0.0
    """Share of the crops whose vegetation is made leaf-off: NAIP is flown leaf-on, but not in
    every state and year, and only one labeled place shows leafless forest."""

    band_gamma: Range = (1.0, 1.0)
    """Exponent on each band separately."""

    infrared_contrast: Range = (1.0, 1.0)
    """Exponent on near infrared about a level between roofs and lawns: the ratio of near infrared
    to red on roads and roofs varies from 0.62 to 0.93 between places, while lawns have a level of
    164 to 189 everywhere."""

    zoom: Range = (0.7, 1.5)
    """Ground meters per pixel of a crop, log-uniform: object sizes differ between places, and
    NAIP's resolution between years."""

    exact_zoom: Share = 0.4
    """Share of the crops read at exactly the served resolution."""

    gain: Range = (0.7, 1.4)
    """Common factor on all bands: exposure and haze differ between years."""

    band_gain: Range = (0.82, 1.22)
    """Factor on each band separately: the mean near infrared of forest ranges from 135 to over 200
    in one season, and the bands of two years of one place shift by up to 40 gray levels."""

    offset: Range = (-18.0, 18.0)
    """Gray levels added to each band."""

    gamma: Range = (0.75, 1.35)
    """Exponent on all bands: contrast of the vendors' radiometric balancing."""

    noise: Range = (0.0, 6.0)
    """Standard deviation, in gray levels, of noise on each pixel."""

    blur: Share = 0.25
    """Share of the crops blurred with a 3 x 3 kernel: resampled imagery is soft."""

    held_out: tuple[str, ...] = ("claremont",)
    """Places used neither for training nor for validation, in any year: the test on unseen
    places. The default is of this project's chips: in a list without that place it holds out
    nothing."""

    left_out: tuple[str, ...] = ("nd",)
    """Places not used at all: 5 m pixels are a different task."""

    validation_share: Share = 0.15
    """Share of each place's chips kept for validation, which selects the checkpoint."""

    margin_m: Annotated[float, Field(ge=0)] = 64.0
    """Buffer between training pixels and held-out pixels."""

    synthetic_held_out: str = "se"
    """Quarter of Demo County whose core is held out, in every year and every scene."""

    synthetic_core_m: Annotated[float, Field(ge=0)] = 300.0
    """A quarter quad overlaps its neighbors by this much; its core excludes the overlap."""

    synthetic_validation: str = "nw"
    """Quarter of Demo County in which a strip is used for validation."""

    synthetic_strip_m: Annotated[float, Field(ge=0)] = 192.0
    """Width of that strip, along the northern edge of the quarter's core."""

    evaluate_every: Annotated[int, Field(ge=1)] = 250
    """Steps between validations (and checkpoints)."""

    checkpoint_every_s: Annotated[float, Field(gt=0)] = 300.0
    """Seconds after which a checkpoint is written between validations."""

    patience: Annotated[int, Field(ge=0)] = 0
    """Validations without improvement after which the run ends; 0: never, because the decaying
    learning rate of the last steps gives the best ones."""

    @model_validator(mode="before")
    @classmethod
    def _old_keys_are_read(cls, values: Any) -> Any:  # noqa: ANN401
        return _current_keys(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Preset:
        for field in RANGES:
            low, high = getattr(self, field)
            if low > high:
                raise ValueError(f"{field}: the lower end {low} is above the upper end {high}")
        for field in POSITIVE_RANGES:
            if getattr(self, field)[0] <= 0:
                raise ValueError(f"{field}: must be above 0, is {getattr(self, field)[0]}")
        if self.warmup >= self.steps:
            raise ValueError(f"warmup ({self.warmup}) must be shorter than steps ({self.steps})")
        return self


def load_preset(name: str, **changes: object) -> Preset:
    """Return the preset called `name` (or at the path `name`), with `changes` applied.

    Raises PresetError naming the available presets, or the invalid value and the reason.
    """
    name = OLD_PRESETS.get(name, name)
    path = Path(name) if name.endswith(".toml") else PRESETS / f"{name}.toml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in PRESETS.glob("*.toml")))
        raise PresetError(f"no preset {name!r}; there are: {there}, or give the path of a .toml")
    try:
        values = _current_keys(tomllib.loads(path.read_text(encoding="utf-8")))
        given = _current_keys({k: v for k, v in changes.items() if v is not None})
        return Preset.model_validate({"name": path.stem, **values, **given})
    except ValueError as error:  # of TOML, of pydantic, or of two names for one key
        raise PresetError(f"preset {path}: {error}") from error


def _current_keys(values: dict[str, Any]) -> dict[str, Any]:
    """Return `values` with former keys renamed; ValueError when a key is given by both names."""
    for old, new in OLD_KEYS.items():
        if old in values and new in values:
            raise ValueError(f"{old} is the former name of {new}: give {new} only")
    return {OLD_KEYS.get(key, key): value for key, value in values.items()}
