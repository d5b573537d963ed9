"""Presets: every number of a training run, typed, with its reason.

A preset is a TOML file in `training/presets`; it names only what differs from the defaults below.
The run folder keeps the full preset, so a run can be repeated from it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.errors import PresetError

PRESETS = Path(__file__).parent / "presets"

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Range = tuple[float, float]

Activation = Literal["relu", "elu"]

POSITIVE_RANGES = (
    "zoom", "coarse", "gain", "band_gain", "gamma", "band_gamma", "infrared_contrast",
)  # fmt: skip
RANGES = (*POSITIVE_RANGES, "offset", "noise")


class Preset(BaseModel):
    """One training run. Lengths are meters on the ground where the name ends in `_m`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Name of the run; it travels into the model card."""

    seed: int = 20261123
    """Every random number of the run follows from it and from the step's number."""

    activation: Activation = "relu"
    """ReLU serves 1.3 times faster than the article's ELU, which ONNX Runtime does not fuse."""

    batch_norm: bool = True
    """Learns several times faster; folded into the convolutions at export, so it costs nothing."""

    dropout: tuple[Share, Share, Share, Share, Share] = (0.1, 0.1, 0.2, 0.2, 0.3)
    """Between the two convolutions of each level, from the finest to the bottom (the article's)."""

    ground_resolution_m: Positive = 1.0
    """The resolution at which the model is served: the NAIP standard until 2017."""

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
    Before them it is constant, so a run can be shortened or prolonged until they begin."""

    learning_rate: Positive = 2e-3
    """Of AdamW; twice the article's, because batch norm bears it and the run is short."""

    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """There are only 90 chips: weights that carry nothing should fade."""

    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay of the running mean of the weights, which is what is judged and shipped. 0: off."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products while training; weights, loss and optimizer are float32 in any case.
    bfloat16 takes 0.64 of the time where the processor has it, and longer where it has not."""

    label_smoothing: Share = 0.05
    """Superpixels spill over edges: several per cent of the labels are wrong at borders."""

    class_weights: Literal["none", "inverse_sqrt"] = "inverse_sqrt"
    """By the pixels each class has in the training scenes, to the power -1/2, mean 1."""

    max_class_weight: Positive = 2.5
    """Rare classes are already drawn more often; a larger weight would paint them everywhere."""

    made_share: Share = 0.4
    """Share of the crops that come from Demo County; the others are real."""

    even_places: Share = 0.5
    """Share of the real crops whose place is drawn evenly; the others go to the class first."""

    transferred_weight: Annotated[float, Field(ge=0)] = 0.5
    """Weight, against a scene of the label's own year, with which a scene of another year of the
    same ground is drawn: the same places under other suns."""

    transferred_erosion: Annotated[int, Field(ge=0)] = 2
    """Pixels around the border of two classes that are unlabeled in another year: NAIP's years
    lie up to several meters off each other."""

    doubt: Share = 0.05
    """A transferred label that the net gives less than this probability is not learned from: the
    ground may have changed (small-loss selection, Han et al. 2018)."""

    doubt_after: Annotated[int, Field(ge=0)] = 250
    """Steps before that: a young net doubts everything."""

    coarse_share: Share = 0.0
    """Share of the crops that are collages of ground read at a coarse resolution, so that the same
    net can classify overviews."""

    own_coarse: bool = False
    """Coarse crops are labeled with the mode of what the run it begins from says at the served
    resolution (coarse.py), at 2, 4 and 8 times that; else with the labels, at `coarse`."""

    coarse: Range = (1.6, 6.0)
    """Ground meters per pixel of those, drawn evenly in the logarithm."""

    clean: Share = 0.0
    """Share of the crops whose radiometry is left as it is: what is served is not distorted."""

    dormant_share: Share = 0.0
    """Share of the crops whose vegetation is turned brown: NAIP is flown leaf-on, but not in
    every state and year, and no labeled place but one shows forest without leaves."""

    band_gamma: Range = (1.0, 1.0)
    """Exponent on each band by itself."""

    infrared_contrast: Range = (1.0, 1.0)
    """Exponent on near infrared about a level between roofs and lawns: roads and roofs reflect 0.62
    to 0.93 as much of it as of red from place to place, while lawns have 164 to 189 everywhere."""

    zoom: Range = (0.7, 1.5)
    """Ground meters per pixel of a crop, drawn evenly in its logarithm: cars, roofs and crowns
    differ in size between places, and NAIP's own resolution between years."""

    exact_zoom: Share = 0.4
    """Share of the crops read at exactly the served resolution."""

    gain: Range = (0.7, 1.4)
    """Common factor on all bands: exposure and haze differ between years."""

    band_gain: Range = (0.82, 1.22)
    """Factor on each band by itself: forest's mean near infrared is 135 to over 200 in one
    season, and the bands of two years of one place shift by 40 gray levels against each other."""

    offset: Range = (-18.0, 18.0)
    """Gray levels added to each band."""

    gamma: Range = (0.75, 1.35)
    """Exponent on all bands: contrast of the vendors' radiometric balancing."""

    noise: Range = (0.0, 6.0)
    """Standard deviation, in gray levels, of noise on each pixel."""

    blur: Share = 0.25
    """Share of the crops softened by a 3 x 3 kernel: resampled originals are soft."""

    held_out: tuple[str, ...] = ("claremont",)
    """Places no step and no choice ever sees, in any year: the accuracy on unseen places."""

    left_out: tuple[str, ...] = ("nd",)
    """Places not used at all: 5 m pixels are another task."""

    validation_share: Share = 0.15
    """Share of each place's chips kept for choosing between checkpoints."""

    margin_m: Annotated[float, Field(ge=0)] = 64.0
    """Ground between training pixels and the pixels kept from training."""

    made_held_out: str = "se"
    """Quarter of Demo County whose core is kept from training, in every year and every scene."""

    made_core_m: Annotated[float, Field(ge=0)] = 300.0
    """A quarter quad reaches this far into its neighbors; its core lies inside that."""

    made_validation: str = "nw"
    """Quarter of Demo County in which a strip is kept for validation."""

    made_strip_m: Annotated[float, Field(ge=0)] = 192.0
    """Width of that strip, along the northern edge of the quarter's core."""

    evaluate_every: Annotated[int, Field(ge=1)] = 250
    """Steps between two validations (and checkpoints)."""

    patience: Annotated[int, Field(ge=0)] = 0
    """Validations without a better one after which the run ends; 0: never, because the falling
    learning rate of the last steps brings the best ones."""

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
    """The preset called `name` (or at the path `name`), with `changes` laid over it.

    Raises PresetError naming the presets there are, or the value and why it cannot be.
    """
    path = Path(name) if name.endswith(".toml") else PRESETS / f"{name}.toml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in PRESETS.glob("*.toml")))
        raise PresetError(f"no preset {name!r}; there are: {there}, or give the path of a .toml")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return Preset.model_validate(
            {"name": path.stem, **values, **{k: v for k, v in changes.items() if v is not None}}
        )
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise PresetError(f"preset {path}: {error}") from error
