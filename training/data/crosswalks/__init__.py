"""Crosswalks: the class of our legend for each code of another legend.

A crosswalk is a TOML file, one of this folder or the user's own.
"""

from __future__ import annotations

import math
import re
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from model.legend import LEGEND, NODATA, Legend
from training.config.base import StrictModel
from training.errors import CrosswalkError

CROSSWALKS = Path(__file__).parent

ClassValue = Annotated[int, Field(ge=0, le=NODATA - 1)]


class Crosswalk(StrictModel):
    """`values`: code → value of the legend, or 0 for a code that stays unlabeled. A code is a
    number, a range of whole numbers ("1-60"), or a text, compared without regard to case and outer
    spaces.
    """

    name: str
    source: str = ""
    """Where the codes are defined."""

    values: Annotated[dict[str, ClassValue], Field(min_length=1)]

    def value(self, code: object) -> int | None:
        """Return the class of a code, 0 where it stays unlabeled, None where the crosswalk has no
        such code. An empty code (None, NaN, "") has none.
        """
        return self._codes.get(_text(code))

    @cached_property
    def _codes(self) -> dict[str, int]:
        codes: dict[str, int] = {}
        for key, value in self.values.items():
            for code in _expanded(key):
                if codes.setdefault(code, value) != value:
                    raise CrosswalkError(
                        f"crosswalk {self.name}: code {code!r} is both {codes[code]} and {value}"
                    )
        return codes


def load_crosswalk(name: str, legend: Legend = LEGEND) -> Crosswalk:
    """Return the crosswalk called `name`, or at the path `name` (.toml), to a legend.

    Raises CrosswalkError naming those that exist, what cannot be read, or a value that the legend
    lacks.
    """
    if legend != LEGEND and name == "legend":
        return _of_legend(legend)
    if legend != LEGEND and not name.endswith(".toml"):
        raise CrosswalkError(
            f"crosswalk {name!r} leads to the default legend: give the path of a .toml that leads "
            "to the legend of this run"
        )
    path = Path(name) if name.endswith(".toml") else CROSSWALKS / f"{name}.toml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in CROSSWALKS.glob("*.toml")))
        raise CrosswalkError(
            f"no crosswalk {name!r}; there are: {there}, or give the path of a .toml"
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        result = Crosswalk.model_validate({"name": path.stem, **values})
    except (tomllib.TOMLDecodeError, ValidationError, UnicodeDecodeError) as error:
        raise CrosswalkError(f"crosswalk {path}: {error}") from error
    result.value(0)  # contradictions show now
    most = len(legend.classes)
    if too_high := [f"{code} = {value}" for code, value in result.values.items() if value > most]:
        raise CrosswalkError(
            f"crosswalk {path}: {too_high[0]}: the legend has the values 0..{most}"
        )
    return result


def _of_legend(legend: Legend) -> Crosswalk:
    """Return the crosswalk of a legend's own values, names and titles."""
    values = {"0": 0, "background": 0}
    for c in legend.classes:
        values |= dict.fromkeys((str(c.value), c.name, c.title), c.value)
    return Crosswalk(name="legend", values=values)


def is_missing(code: object) -> bool:
    """Return whether a code is none at all: None, NaN or blank."""
    return not _text(code)


def _expanded(key: str) -> list[str]:
    span = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", key)
    if not span:
        return [_text(key)]
    return [str(code) for code in range(int(span[1]), int(span[2]) + 1)]


def _text(code: object) -> str:
    """Normalize a code: 5, 5.0, "5", " 5 " and numpy's are the same."""
    if code is None:
        return ""
    text = str(code).strip().casefold()
    try:
        number = float(text)
    except ValueError:
        return text
    if math.isnan(number):
        return ""
    return str(int(number)) if number.is_integer() else text
