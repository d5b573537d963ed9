"""A catalog of the GeoTIFFs in a directory. Files it cannot serve are named, never fatal."""

from __future__ import annotations

import glob
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import rasterio
from rasterio.errors import RasterioError

from app.errors import ConfigurationError, SourceUnavailable
from app.imagery.catalog.index import InMemoryCatalog, SkippedFile
from app.imagery.catalog.index_store import Entry, IndexStore
from app.imagery.inspection import described, identity_of, inspect
from app.imagery.scene import ReadOptions, Scene, UnsupportedImage
from app.imagery.store.object_store import ObjectStore
from app.imagery.store.opener import close_remote, open_remote

SUFFIXES = (".tif", ".tiff")
"""Compared without regard to case."""

_WILD = "*?["
_BATCH = 32


class DirectoryCatalog(InMemoryCatalog):
    """The scenes below a directory, of a glob or in one file, found at start and by `refresh`."""

    def __init__(self, root: Path, reading: ReadOptions, store: IndexStore | None = None) -> None:
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

    def _inspect_all(
        self, paths: list[Path], base: Path
    ) -> list[tuple[str, str, Scene | SkippedFile]]:
        """In one GDAL environment: to set one up for each file takes as long as to open it."""
        with rasterio.Env():
            return [self._inspect(path, base) for path in paths]

    def _inspect(self, path: Path, base: Path) -> tuple[str, str, Scene | SkippedFile]:
        """(path, identity, what it is); a file that has not changed is not opened again."""
        href, name = str(path), str(path.relative_to(base))
        try:
            identity = identity_of(path)
            if href in self._seen and self._seen[href][0] == identity:
                return href, identity, self._seen[href][1]
            self.opened += 1
            return href, identity, inspect(path, self.reading)
        except OSError as error:
            return href, "", SkippedFile(name, f"cannot be opened: {error.strerror}")
        except UnsupportedImage as refusal:
            return href, identity, SkippedFile(name, str(refusal))


def _is_wild(path: Path | str) -> bool:
    return any(char in str(path) for char in _WILD) and not Path(path).exists()


def _may_be_a_scene(path: Path) -> bool:
    """GeoTIFFs by name, but for `<scene>_label.tif`: where training keeps a scene's labels."""
    return path.suffix.lower() in SUFFIXES and not path.stem.endswith("_label")


REMOTE_SCHEMES = ("https", "http", "s3", "gs", "az", "abfs", "abfss")


class UrlListCatalog(InMemoryCatalog):
    """The scenes in files that `names` lists."""

    def __init__(
        self,
        names: Callable[[], Sequence[str]],
        remote: ObjectStore,
        reading: ReadOptions,
        store: IndexStore | None = None,
    ) -> None:
        """ConfigurationError when nothing can be served, SourceUnavailable when the source is away
        and `store` knows nothing of it."""
        super().__init__(reading)
        self.remote = remote
        self._names = names
        self._store = store
        self._seen: dict[str, Entry] = store.load() if store else {}
        self._away: str | None = None
        self._look()
        self.generation = 0

    @property
    def unavailable(self) -> str | None:
        """Why the server is being left alone, or what it did when it was last looked at."""
        return self.remote.unavailable or self._away

    def refresh(self) -> None:
        """Reads the list again and looks again at the files that were read since the last time."""
        with self._lock:
            touched, self.remote.touched = self.remote.touched, set()
            # One at least, so that it is noticed when the source is away.
            some = [href for href in self._seen if urlsplit(href).scheme in REMOTE_SCHEMES][:1]
            self._look(touched or set(some))

    def _look(self, again: set[str] | frozenset[str] = frozenset()) -> None:
        try:
            hrefs = sorted(set(self._names()))
        except SourceUnavailable:
            if not self._seen:
                raise
            hrefs = sorted(self._seen)
        away = threading.Event()
        reasons: list[str] = []

        def look(href: str) -> tuple[str, str, Scene | SkippedFile]:
            known = self._seen.get(href)
            if known and away.is_set():
                return href, *known
            try:
                return href, *self._inspect(href, known, href in again)
            except SourceUnavailable as error:
                if error.whole_source:
                    away.set()
                    reasons.append(error.reason)
                if known:
                    return href, *known
                return href, "", SkippedFile(href, f"cannot be read: {error.reason}")

        with ThreadPoolExecutor(self.remote.limits.connections) as pool:
            found = list(pool.map(look, hrefs))
        if not any(isinstance(result, Scene) for *_, result in found):
            self._refuse([result for *_, result in found if isinstance(result, SkippedFile)], away)
        self._away = reasons[0] if reasons else None
        before = self._seen
        self._seen = {href: (identity, result) for href, identity, result in found if identity}
        self._publish(result for *_, result in found)
        if self._store and self._seen != before:
            self._store.save(self._seen)

    def _refuse(self, problems: list[SkippedFile], away: threading.Event) -> None:
        reasons = "; ".join(f"{p.path} {p.reason}" for p in problems[:3]) or "the list is empty"
        if away.is_set():
            raise SourceUnavailable(self.remote.source_id, reasons, whole_source=True)
        raise ConfigurationError(
            f"source {self.remote.source_id}: no scene that can be served ({reasons})"
        )

    def _inspect(
        self, href: str, known: Entry | None, again: bool
    ) -> tuple[str, Scene | SkippedFile]:
        scheme = urlsplit(href).scheme
        if scheme in REMOTE_SCHEMES:
            if known and not again:
                return known[0], self._on_remote(known[1])
            return self._ask(href, known)
        path = Path(href)
        try:
            identity = identity_of(path)
            if known and known[0] == identity:
                return known
            return identity, inspect(path, self.reading)
        except OSError as error:
            return "", SkippedFile(href, f"cannot be opened: {error.strerror}")
        except UnsupportedImage as refusal:
            return identity, SkippedFile(href, str(refusal))

    def _ask(self, href: str, known: Entry | None) -> tuple[str, Scene | SkippedFile]:
        """What a remote file is now; its header is read unless it is the one that is known."""
        name = name_of(href)
        stat = self.remote.stat(href, name, *((1,) if known else ()))
        if known and known[0] == stat.identity:
            return known[0], self._on_remote(known[1])
        try:
            dataset, file = open_remote(self.remote, href, name, stat)
            try:
                scene = described(
                    dataset,
                    self.reading,
                    name,
                    href=href,
                    identity=stat.identity,
                    length=stat.length,
                )
            finally:
                close_remote(dataset, file)
            if file.error is not None:
                raise file.error
        except UnsupportedImage as refusal:
            return stat.identity, SkippedFile(href, str(refusal))
        except (OSError, RasterioError):
            return stat.identity, SkippedFile(href, "is not a readable GeoTIFF")
        return stat.identity, self._on_remote(replace(scene, etag=stat.etag))

    def _on_remote(self, found: Scene | SkippedFile) -> Scene | SkippedFile:
        return replace(found, remote=self.remote) if isinstance(found, Scene) else found


def name_of(href: str) -> str:
    """The name of a file without folder, suffix and query."""
    return Path(urlsplit(href).path).stem


def checked(hrefs: Sequence[str], source_id: str) -> Sequence[str]:
    """The hrefs; ConfigurationError names the first that is no GeoTIFF's address."""
    for href in hrefs:
        parts = urlsplit(href)
        if "://" in href and parts.scheme not in REMOTE_SCHEMES:
            known = ", ".join(f"{scheme}://" for scheme in REMOTE_SCHEMES)
            raise ConfigurationError(
                f"source {source_id}: {href}: addresses begin with one of {known}"
            )
        if Path(parts.path).suffix.lower() not in SUFFIXES:
            raise ConfigurationError(f"source {source_id}: {href}: not a .tif or .tiff")
    return hrefs


def in_text(path: Path, source_id: str) -> Sequence[str]:
    """Addresses in a text file, one a line; `#` begins a remark."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"source {source_id}: list {path}: {error}") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def in_mosaic(address: str, remote: ObjectStore) -> Sequence[str]:
    """The assets of a MosaicJSON, a local file or a remote one; relative ones are told from it."""
    name = remote.source_id
    is_remote = urlsplit(address).scheme in REMOTE_SCHEMES
    try:
        text = remote.whole(address, name) if is_remote else Path(address).read_bytes()
        tiles = json.loads(text)["tiles"]
        assets = {asset for each in tiles.values() for asset in each}
        if not all(isinstance(asset, str) for asset in assets):
            raise TypeError  # noqa: TRY301
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"cannot be read ({error})" if isinstance(error, OSError) else "is no MosaicJSON"
        raise ConfigurationError(f"source {name}: {address} {reason}") from error
    if is_remote:
        return [urljoin(address, asset) for asset in assets]
    base = Path(address).parent
    return [asset if "://" in asset else str(base / asset) for asset in assets]
