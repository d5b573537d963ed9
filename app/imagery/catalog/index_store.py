"""What a source's files were found to be, kept on disk: the next start opens only what changed."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from dataclasses import asdict, fields
from pathlib import Path

from app.imagery.catalog.index import SkippedFile
from app.imagery.scene import Georeference, ReadOptions, Scene

VERSION = 2

Entry = tuple[str, Scene | SkippedFile]
"""(identity, what the file is)."""

log = logging.getLogger("landcover.imagery")

_KEPT = [each.name for each in fields(Scene) if each.name != "remote"]


class IndexStore:
    """One file for a source. A damaged one, or one made for another reading, counts as none."""

    def __init__(self, path: Path, reading: ReadOptions) -> None:
        self.path = path
        self._for = f"{VERSION} {reading}"

    def load(self) -> dict[str, Entry]:
        """href → what was known of it."""
        try:
            content = json.loads(self.path.read_bytes())
            if content["for"] != self._for:
                return {}
            return {href: _entry(*kept) for href, kept in content["files"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("%s: not an index (%s); built anew", self.path, type(error).__name__)
            return {}

    def save(self, entries: dict[str, Entry]) -> None:
        """Writes the index whole, or not at all; failing is not an error."""
        files = {href: [identity, _plain(found)] for href, (identity, found) in entries.items()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, suffix=".part")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"for": self._for, "files": files}, file)
            Path(name).replace(self.path)
        except OSError as error:
            log.warning("%s: cannot be written: %s", self.path, error.strerror)


def _plain(found: Scene | SkippedFile) -> dict[str, object]:
    if isinstance(found, SkippedFile):
        return {"problem": found.path, "reason": found.reason}
    plain = {name: getattr(found, name) for name in _KEPT}
    return plain | {"native": asdict(found.native) if found.native else None}


def _entry(identity: str, kept: dict[str, object]) -> Entry:
    if "problem" in kept:
        return identity, SkippedFile(str(kept["problem"]), str(kept["reason"]))
    native = kept.get("native")
    values = _tuples(kept)
    if isinstance(native, dict):
        values["native"] = Georeference(**_tuples(native))  # type: ignore[arg-type]
    return identity, Scene(**values)  # type: ignore[arg-type]


def _tuples(kept: dict[str, object]) -> dict[str, object]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in kept.items()}
