"""A catalog of the GeoTIFFs in a directory. Files it cannot serve are named, never fatal."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import rasterio

from app.errors import ConfigurationError
from app.imagery.index import Problem
from app.imagery.index_store import IndexStore
from app.imagery.inspection import identity_of, inspect
from app.imagery.listed import Listed
from app.imagery.scene import Reading, Refused, Scene

SUFFIXES = (".tif", ".tiff")
"""Compared without regard to case."""

_WILD = "*?["
_BATCH = 32


class Directory(Listed):
    """The scenes below a directory, of a glob or in one file, found at start and by `refresh`."""

    def __init__(self, root: Path, reading: Reading, store: IndexStore | None = None) -> None:
        """ConfigurationError when there is no such directory, or nothing in it can be served.

        Files that are as `store` knows them are not opened.
        """
        super().__init__(reading)
        self.root = root
        self.opened = 0
        self._store = store
        self._seen = store.load() if store else {}
        self._look()
        self.generation = 0

    @property
    def base(self) -> Path:
        """The folder that paths are told from: that of a glob is the part without wildcards."""
        if _is_wild(self.root):
            parts = self.root.parts
            return Path(*parts[: next(i for i, p in enumerate(parts) if _is_wild(p))])
        return self.root if self.root.is_dir() else self.root.parent

    @property
    def unavailable(self) -> str | None:
        """That the directory is away, if it is."""
        there = self.base if _is_wild(self.root) else self.root
        return None if there.exists() else f"{there}: no such directory"

    def refresh(self) -> None:
        """Looks at the files again; what changed gets a new identity, what vanished is dropped.

        ConfigurationError when nothing is left: a disk that is away is not an empty place, and the
        scenes stay as they were known.
        """
        with self._lock:
            self._look()

    def _look(self) -> None:
        base, before = self.base, self._seen
        paths = list(self._paths())
        batches = [paths[at : at + _BATCH] for at in range(0, len(paths), _BATCH)]
        with ThreadPoolExecutor(8) as pool:
            parts = pool.map(lambda batch: self._inspect_all(batch, base), batches)
            found = [result for part in parts for result in part]
        if not any(isinstance(result, Scene) for _, _, result in found):
            reasons = "; ".join(f"{p.path}: {p.reason}" for *_, p in found[:5])  # type: ignore[union-attr]
            raise ConfigurationError(
                f"{self.root}: no scene that can be served ({reasons or 'no GeoTIFF in it'})"
            )
        self._seen = {path: (identity, result) for path, identity, result in found if identity}
        self._publish(result for *_, result in found)
        if self._store and self._seen != before:
            self._store.save(self._seen)

    def _paths(self) -> Iterable[Path]:
        if _is_wild(self.root):
            return sorted(map(Path, glob.glob(str(self.root), recursive=True)))
        if self.root.is_file():
            return [self.root]
        if self.root.is_dir():
            return sorted(filter(_may_be_a_scene, self.root.rglob("*")))
        raise ConfigurationError(f"{self.root}: no such directory")

    def _inspect_all(self, paths: list[Path], base: Path) -> list[tuple[str, str, Scene | Problem]]:
        """In one GDAL environment: to set one up for each file takes as long as to open it."""
        with rasterio.Env():
            return [self._inspect(path, base) for path in paths]

    def _inspect(self, path: Path, base: Path) -> tuple[str, str, Scene | Problem]:
        """(path, identity, what it is); a file that has not changed is not opened again."""
        href, name = str(path), str(path.relative_to(base))
        try:
            identity = identity_of(path)
            if href in self._seen and self._seen[href][0] == identity:
                return href, identity, self._seen[href][1]
            self.opened += 1
            return href, identity, inspect(path, self.reading)
        except OSError as error:
            return href, "", Problem(name, f"cannot be opened: {error.strerror}")
        except Refused as refusal:
            return href, identity, Problem(name, str(refusal))


def _is_wild(path: Path | str) -> bool:
    return any(char in str(path) for char in _WILD) and not Path(path).exists()


def _may_be_a_scene(path: Path) -> bool:
    """GeoTIFFs by name, but for `<scene>_label.tif`: where training keeps a scene's labels."""
    return path.suffix.lower() in SUFFIXES and not path.stem.endswith("_label")
