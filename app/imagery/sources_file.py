"""Reading `sources.toml`: every mistake is named with the source, the key and what was meant."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from app.errors import ConfigurationError
from app.imagery.config import AnyConfig, SourceConfig

_ONE = TypeAdapter[AnyConfig](AnyConfig)
_KINDS: dict[str, type[SourceConfig]] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind
    for kind in get_args(get_args(AnyConfig)[0])
}


def load(path: Path) -> tuple[AnyConfig, ...]:
    """The sources of a file, in its order; ConfigurationError names the first mistake.

    Relative paths are told from the file's folder.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    unknown = set(content) - {"source"}
    if unknown:
        raise ConfigurationError(f"{path}: {_meant(min(unknown), ['source'])}")
    tables = content.get("source", [])
    if not isinstance(tables, list) or not tables:
        raise ConfigurationError(f"{path}: no [[source]] in it")
    configs = tuple(_one(path, number, table) for number, table in enumerate(tables, 1))
    ids = [config.id for config in configs]
    twice = sorted({each for each in ids if ids.count(each) > 1})
    if twice:
        raise ConfigurationError(f"{path}: source {twice[0]}: this id is given twice")
    return configs


def _one(path: Path, number: int, table: Any) -> AnyConfig:  # noqa: ANN401 - TOML
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: source {number} is not a table")
    where = f"{path}: source {table.get('id', number)}"
    kind = _KINDS.get(str(table.get("type")))
    if kind is None:
        given = table.get("type")
        expected = ", ".join(sorted(_KINDS))
        raise ConfigurationError(f"{where}: type={given!r}: one of {expected} expected")
    for key in table:
        if key not in kind.model_fields:
            raise ConfigurationError(f"{where}: {_meant(key, kind.model_fields)}")
    try:
        config: AnyConfig = _ONE.validate_python(table, context={"base": path.parent})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"][1:])
        given = "" if first["type"] == "missing" else f"={first['input']!r}"
        raise ConfigurationError(f"{where}: {key}{given}: {first['msg']}") from error
    return config


def _meant(key: str, known: Any) -> str:  # noqa: ANN401 - any iterable of names
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
    return f"unknown key {key!r}; {hint}"
