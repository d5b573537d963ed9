"""Files that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.errors import DiskError

PARTIAL = ".partial-"
"""Begins the name of what is being written; whatever bears it may be deleted."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path (of a file or a folder that the caller makes) which takes the place of `path` when the
    block ends well, and is removed when it does not. What a killed process left is removed first.

    Raises DiskError, naming `path`, when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(PARTIAL + path.name)
    remove(draft)
    try:
        yield draft
        if draft.is_dir() and path.is_dir():
            shutil.rmtree(path)
        draft.replace(path)
    except BaseException as error:
        free = shutil.disk_usage(path.parent).free
        remove(draft)
        if is_full(error, free):
            raise DiskError(
                f"no room for {path}: {free / 2**20:.1f} MiB were free; nothing was kept of it"
            ) from error
        raise


def write_json(path: Path, content: object) -> None:
    """Writes `content` as JSON, whole or not at all."""
    with whole(path) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces of 1 MiB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Removes a file or folder, or does nothing."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_room(folder: Path, needed: int) -> None:
    """Raises the system's "no space left" when fewer than `needed` bytes are free: HDF5 cannot
    close a file once a write has failed, so it must not come to that.
    """
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def is_full(error: BaseException, free: int) -> bool:
    """True when `error` says that the disk is full. GDAL, HDF5 and torch do not always pass the
    number on: an error in writing with less than 64 KiB `free` is taken for it, too.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        if os.strerror(errno.ENOSPC) in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return isinstance(error, Exception) and free < 2**16
