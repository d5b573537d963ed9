"""Catalogs of GeoTIFFs: a directory, and a list of addresses. Files that cannot be served are
named, never fatal."""

from __future__ import annotations

import fnmatch
import glob
import json
import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol
from urllib.parse import urljoin, urlsplit

import rasterio

from app.errors import ConfigurationError, SourceUnavailable
from app.imagery.catalog.index import (
    IndexStore,
    InMemoryCatalog,
    Inspected,
    SkippedFile,
    nothing_served,
)
from app.imagery.catalog.presence import Presence
from app.imagery.scene import (
    REMOTE_SCHEMES,
    ReadOptions,
    Scene,
    UnsupportedImage,
    identity_of,
    inspect,
    local_path,
    printable,
)

SUFFIXES = (".tif", ".tiff")
"""Compared without regard to case."""

_WILD = "*?["
_BATCH = 32
_LARGEST_MOSAIC = 512_000_000
"""Bytes of a MosaicJSON that was compressed."""

log = logging.getLogger("landcover.imagery")


class _FilesCatalog(InMemoryCatalog):
    """Files that were inspected, kept by `store` from one process to the next."""

    def __init__(self, reading: ReadOptions, store: IndexStore | None) -> None:
        super().__init__(reading)
        self._store = store
        self._files: dict[str, Inspected] = store.load() if store else {}

    def _keep(self, results: Sequence[tuple[str, str, Scene | SkippedFile]]) -> None:
        """Make (href, identity, what it holds) of every file the catalog."""
        before = self._files
        self._files = {href: (identity, result) for href, identity, result in results if identity}
        self._publish(result for *_, result in results)
        if self._store and self._files != before:
            self._store.save(self._files)


class DirectoryCatalog(_FilesCatalog):
    """The scenes below a directory, of a glob or in one file, listed at start and by `refresh`."""

    def __init__(self, root: Path, reading: ReadOptions, store: IndexStore | None = None) -> None:
        """ConfigurationError when there is no such directory, or nothing in it can be served.

        Files that are as `store` has them are not opened.
        """
        super().__init__(reading, store)
        self.root = root
        self.opened = 0
        self._presence = Presence(self.base if _is_wild(root) else root)
        self._list()
        self.generation = 0

    @property
    def base(self) -> Path:
        """The folder that names are relative to: that of a glob is the part without wildcards."""
        if _is_wild(self.root):
            parts = self.root.parts
            return Path(*parts[: next(i for i, p in enumerate(parts) if _is_wild(p))])
        return self.root if self.root.is_dir() else self.root.parent

    @property
    def unavailable(self) -> str | None:
        """That the directory is missing, or its disk does not answer, if so."""
        return self._presence.missing()

    def refresh(self) -> None:
        """List the files again; what changed gets a new identity, what vanished is dropped.

        ConfigurationError when nothing is left: a disk that is not mounted is not an empty place,
        and the scenes stay as they were known.
        """
        with self._lock:
            self._list()

    def _list(self) -> None:
        base = self.base
        paths = list(self._paths())
        batches = [paths[at : at + _BATCH] for at in range(0, len(paths), _BATCH)]
        with ThreadPoolExecutor(8) as pool:
            parts = pool.map(lambda batch: self._inspect_all(batch, base), batches)
            results = [result for part in parts for result in part]
        if not any(isinstance(result, Scene) for _, _, result in results):
            raise nothing_served(
                printable(str(self.root)), [result for *_, result in results], "no GeoTIFF in it"
            )
        self._keep(results)

    def _paths(self) -> Iterable[Path]:
        if _is_wild(self.root):
            pattern = self.root.relative_to(self.base).parts
            if "**" not in pattern:
                return sorted(map(Path, glob.glob(str(self.root))))
            below = files_below(self.base)
            return [each for each in below if _fits(each.relative_to(self.base).parts, pattern)]
        if self.root.is_file():
            return [self.root]
        if self.root.is_dir():
            return list(filter(_may_be_a_scene, files_below(self.root)))
        raise ConfigurationError(f"{printable(str(self.root))}: no such directory")

    def _inspect_all(
        self, paths: list[Path], base: Path
    ) -> list[tuple[str, str, Scene | SkippedFile]]:
        """Return (path, identity, what it holds) of each, in one GDAL environment: to set one up
        takes as long as to open a file."""
        results = []
        with rasterio.Env():
            for path in paths:
                known = self._files.get(str(path))
                name = str(path.relative_to(base))
                identity, result = _inspected(path, known, self.reading, name)
                self.opened += bool(identity) and (known is None or known[0] != identity)
                results.append((str(path), identity, result))
        return results


class RemoteFiles(Protocol):
    """The files of a source on a network, as far as a catalog looks at them."""

    source_id: str
    connections: int

    @property
    def unavailable(self) -> str | None:
        """Why the server is being left alone, None when it is not."""
        ...

    def take_read(self) -> set[str]:
        """Return the addresses that were read since the last call."""
        ...

    def inspect(self, href: str, known: Inspected | None) -> Inspected:
        """Return what a file is now, `known` when it has not changed; SourceUnavailable when it
        cannot be had."""
        ...

    def refusal(self, href: str) -> str | None:
        """Return why an address may not be read and what allows it, None when it may."""
        ...

    def probe(self) -> bool:
        """Find out in a short time whether the server answers; return whether it does."""
        ...


class UrlListCatalog(_FilesCatalog):
    """The scenes in files that `names` lists."""

    def __init__(
        self,
        names: Callable[[], Sequence[str]],
        files: RemoteFiles,
        reading: ReadOptions,
        store: IndexStore | None = None,
    ) -> None:
        """ConfigurationError when nothing can be served, SourceUnavailable when the source cannot
        be reached and `store` has nothing of it."""
        super().__init__(reading, store)
        self._names = names
        self._remote = files
        self._unavailable: str | None = None
        self._list()
        self.generation = 0

    @property
    def unavailable(self) -> str | None:
        """Why the server is being left alone, or what it did when it was last looked at."""
        return self._remote.unavailable or self._unavailable

    def refresh(self) -> None:
        """Read the list again, and look again at the files that were read since the last time."""
        with self._lock:
            # One at least, so that a source that cannot be reached is noticed.
            some = [href for href in self._files if urlsplit(href).scheme in REMOTE_SCHEMES][:1]
            self._list(self._remote.take_read() or set(some))

    def probe(self) -> None:
        """Ask for a byte of a file; once the server answers, read what could not be read."""
        if self._remote.probe() and self._unavailable:
            try:
                self.refresh()
            except (SourceUnavailable, ConfigurationError):
                return

    def _list(self, again: set[str] | frozenset[str] = frozenset()) -> None:
        reasons: list[str] = []
        try:
            hrefs = sorted(set(self._names()))
        except SourceUnavailable as error:
            if not self._files:
                raise
            hrefs = sorted(self._files)
            reasons += [error.reason] if error.whole_source else []
        down = threading.Event()

        def inspected(href: str) -> tuple[str, str, Scene | SkippedFile]:
            known = self._files.get(href)
            if known and down.is_set():
                return href, *known
            try:
                return href, *self._inspect(href, known, href in again)
            except SourceUnavailable as error:
                if error.whole_source:
                    down.set()
                    reasons.append(error.reason)
                if known:
                    return href, *known
                return href, "", SkippedFile(href, f"cannot be read: {error.reason}")

        with ThreadPoolExecutor(self._remote.connections) as pool:
            results = list(pool.map(inspected, hrefs))
        if not any(isinstance(result, Scene) for *_, result in results):
            source_id = self._remote.source_id
            refusal = nothing_served(
                f"source {source_id}", [result for *_, result in results], "the list is empty"
            )
            if down.is_set():
                raise SourceUnavailable(source_id, reasons[0], whole_source=True)
            raise refusal
        # One file that fails for good does not make the server one that is away.
        self._unavailable = reasons[0] if reasons and not self._remote.probe() else None
        self._keep(results)

    def _inspect(self, href: str, known: Inspected | None, again: bool) -> Inspected:
        if urlsplit(href).scheme not in REMOTE_SCHEMES:
            return _inspected(local_path(href), known, self.reading, href)
        refusal = self._remote.refusal(href)
        if refusal is not None:
            return "", SkippedFile(href, f"is not read: {refusal}")
        return known if known and not again else self._remote.inspect(href, known)


def _inspected(path: Path, known: Inspected | None, reading: ReadOptions, name: str) -> Inspected:
    """Return what a local file is; one that has not changed is not opened again."""
    identity, name = "", printable(name)
    try:
        identity = identity_of(path)
        if known and known[0] == identity:
            return known
        return identity, inspect(path, reading)
    except OSError as error:
        return "", SkippedFile(name, f"cannot be opened: {error.strerror}")
    except UnsupportedImage as refusal:
        return identity, SkippedFile(name, printable(str(refusal)))
    except Exception as error:
        # Foreign bytes all the way: one file must not take the others from anybody.
        reason = f"cannot be understood: {type(error).__name__}: {error}"
        return "", SkippedFile(name, printable(reason[:300]))


def files_below(folder: Path) -> list[Path]:
    """Return everything below a folder that is no folder, sorted; linked folders are followed, each
    one once however many links lead to it."""
    paths: list[Path] = []
    seen: set[tuple[int, int]] = set()
    # Links last, so that what is there in its own right keeps its own path.
    waiting, links = [folder], list[Path]()
    while waiting or links:
        here = waiting.pop() if waiting else links.pop(0)
        try:
            stat = here.stat()
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            log.warning("%s cannot be listed: %s", printable(str(here)), error.strerror)
            continue
        for entry in entries:
            if not entry.is_dir():
                paths.append(Path(entry.path))
            elif entry.is_symlink():
                links.append(Path(entry.path))
            else:
                waiting.append(Path(entry.path))
    return sorted(paths)


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path fits a pattern, both in parts; `**` stands for any folders. As in a
    shell, no wildcard stands for a name that begins with a dot."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        more = bool(parts) and not parts[0].startswith(".") and _fits(parts[1:], pattern)
        return more or _fits(parts, pattern[1:])
    if not parts or (parts[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _is_wild(path: Path | str) -> bool:
    return any(char in str(path) for char in _WILD) and not Path(path).exists()


def _may_be_a_scene(path: Path) -> bool:
    """Return whether it is a GeoTIFF by its name, but for `<scene>_label.tif`: where training
    keeps a scene's labels."""
    return path.suffix.lower() in SUFFIXES and not path.stem.endswith("_label")


def checked(hrefs: Sequence[str], source_id: str) -> Sequence[str]:
    """Return the hrefs; ConfigurationError names the first that is no GeoTIFF's address."""
    for href in hrefs:
        parts = urlsplit(href)
        if "://" in href and parts.scheme not in (*REMOTE_SCHEMES, "file"):
            known = ", ".join(f"{scheme}://" for scheme in REMOTE_SCHEMES)
            raise ConfigurationError(
                f"source {source_id}: {href}: addresses begin with one of {known}"
            )
        if Path(parts.path).suffix.lower() not in SUFFIXES:
            raise ConfigurationError(f"source {source_id}: {href}: not a .tif or .tiff")
    return hrefs


def in_text(path: Path, source_id: str) -> Sequence[str]:
    """Return the addresses in a text file, one a line; `#` begins a comment."""
    try:
        lines = _content_of(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"source {source_id}: list {path}: {error}") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def in_mosaic(address: str, source_id: str, fetch: Callable[[str, str], bytes]) -> Sequence[str]:
    """Return the assets of a MosaicJSON, plain or gzip, a local file or a remote one; with its
    `asset_prefix` before them, relative ones are told from it. `fetch`: (address, name) → all bytes
    of a small remote file."""
    is_remote = urlsplit(address).scheme in REMOTE_SCHEMES
    try:
        content = fetch(address, source_id) if is_remote else _content_of(local_path(address))
        document = json.loads(_unpacked(content))
        prefix = document.get("asset_prefix") or ""
        assets = {prefix + asset for each in document["tiles"].values() for asset in each}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"cannot be read ({error})" if isinstance(error, OSError) else "is no MosaicJSON"
        raise ConfigurationError(f"source {source_id}: {address} {reason}") from error
    if is_remote:
        joined = [urljoin(address, asset) for asset in assets]
        for asset in joined:
            if urlsplit(asset).scheme not in REMOTE_SCHEMES:
                raise ConfigurationError(
                    f"source {source_id}: {address} leads to {asset[:100]}, which is not on the web"
                )
        return joined
    base = local_path(address).parent
    return [asset if "://" in asset else str(base / asset) for asset in assets]


def _content_of(path: Path) -> bytes:
    """Return all bytes of a file; OSError too for what is none, such as a pipe that nobody
    fills."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file")
    return path.read_bytes()


def _unpacked(content: bytes) -> bytes:
    """Return what gzip packed, anything else as it is; ValueError when it is damaged or expands
    too far."""
    if content[:2] != b"\x1f\x8b":
        return content
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacker.decompress(content, _LARGEST_MOSAIC)
    except zlib.error as error:
        raise ValueError(f"damaged gzip: {error}") from error
    if not unpacker.eof:
        raise ValueError("is cut, or expands too far")
    return unpacked
