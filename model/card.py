"""The model card: everything needed to run a model file and to judge its results.

Field names follow the STAC machine-learning-model extension where it has one. The card is stored
inside the .onnx file (metadata key `landcover:card`) and beside it as `<stem>.card.json`;
only the copy beside it can carry the digest of the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.errors import CardError
from model.legend import LEGEND, Legend
from model.windows import BLOCK, MULTIPLE

METADATA_PREFIX = "landcover:"
"""Prefix of our own keys among an ONNX file's metadata_props."""

Count = Annotated[int, Field(ge=0)]


class Assessment(BaseModel):
    """One accuracy assessment: the exported file against labels of places it was not trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="short name, such as `claremont`")
    description: str = Field(min_length=1, description="what was compared with what")
    contingency: tuple[tuple[Count, ...], ...] = Field(
        description="pixels; row = reference class, column = predicted class, in legend order"
    )

    clusters: dict[str, tuple[tuple[Count, ...], ...]] = Field(
        default={},
        description="the same pixels by place or scene: those of one are not independent",
    )

    @model_validator(mode="after")
    def _square(self) -> Self:
        tables = (self.contingency, *self.clusters.values())
        if any(len(row) != len(self.contingency) for table in tables for row in table):
            raise ValueError("a contingency table must be square")
        if any(len(table) != len(self.contingency) for table in tables):
            raise ValueError("the tables of clusters must have the size of their sum")
        if self.clusters:
            cells = zip(*(sum(table, ()) for table in self.clusters.values()), strict=True)
            if tuple(map(sum, cells)) != sum(self.contingency, ()):
                raise ValueError("the tables of clusters must add up to the contingency table")
        return self

    @property
    def pixels(self) -> int:
        """Return the number of labeled pixels behind the figures."""
        return sum(map(sum, self.contingency))

    @property
    def overall_accuracy(self) -> float:
        """Return the share of labeled pixels predicted right, 0..1 (0 when there are none)."""
        right = sum(row[i] for i, row in enumerate(self.contingency))
        return right / self.pixels if self.pixels else 0.0


class Training(BaseModel):
    """What the model was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: str = ""
    seed: int = 0
    steps: int = Field(default=0, ge=0)
    places: tuple[str, ...] = Field(default=(), description="folders or counties trained on")
    pixels: dict[str, int] = Field(default={}, description="labeled pixels per class name")
    band_mean: tuple[float, ...] = Field(
        default=(), description="radiometry of the training images, 0..255"
    )
    band_std: tuple[float, ...] = Field(
        default=(), description="radiometry of the training images, 0..255"
    )


class ModelCard(BaseModel):
    """What a model expects, what it returns, and how far it can be trusted."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    description: str = ""
    bands: tuple[str, ...] = ("red", "green", "blue", "nir")
    mean: tuple[float, ...] = Field(description="per band, on the 0..1 scale")
    std: tuple[float, ...] = Field(description="per band, on the 0..1 scale, > 0")
    ground_resolution: float = Field(default=1.0, gt=0, description="meters per pixel")
    halo: int = Field(default=32, ge=0, description="context pixels on every side of a block")
    legend: Legend = LEGEND
    training: Training = Training()
    accuracy: tuple[Assessment, ...] = ()
    license: str = Field(default="", validation_alias=AliasChoices("license", "licence"))
    attribution: str = ""
    sha256: str | None = Field(default=None, description="digest of the .onnx file")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for field in ("mean", "std"):
            values = getattr(self, field)
            if len(values) != len(self.bands):
                raise ValueError(f"{field} has {len(values)} values for {len(self.bands)} bands")
        if min(self.std) <= 0:
            raise ValueError(f"std must be > 0 in every band, got {self.std}")
        if self.halo % MULTIPLE:
            raise ValueError(f"halo must be a multiple of {MULTIPLE}, got {self.halo}")
        for assessment in self.accuracy:
            if len(assessment.contingency) != len(self.legend.classes):
                raise ValueError(
                    f"assessment {assessment.name} has {len(assessment.contingency)} classes, "
                    f"the legend {len(self.legend.classes)}"
                )
        return self

    @property
    def window(self) -> int:
        """Return the edge of the network's input in pixels: a block and its halo."""
        return BLOCK + 2 * self.halo

    @property
    def channels(self) -> int:
        """Return the number of output channels: background and every class."""
        return 1 + len(self.legend.classes)

    def embedded(self) -> str:
        """Return the card as it is stored inside the .onnx file: JSON without the file's digest."""
        return self.model_dump_json(exclude={"sha256"})

    @classmethod
    def parse(cls, text: str | bytes, origin: str) -> Self:
        """Parse a card from JSON; CardError names `origin` and what is wrong."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "card"
            raise CardError(f"{origin}: {where}: {first['msg']}") from error

    @staticmethod
    def path_beside(onnx_path: Path) -> Path:
        """Return the path of the card beside a model file: `<stem>.card.json`."""
        return onnx_path.with_suffix(".card.json")


class ServedCard(ModelCard):
    """The card as results carry it: with the digest of the file and what runs it."""

    engine: str = Field(description="engine and precision, such as `openvino:bf16`")
