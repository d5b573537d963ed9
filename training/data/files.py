"""Atomic files: written beside their destination, then renamed."""

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
"""Prefix of unfinished files, which may be deleted."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a path, of a file or folder that the caller creates, which replaces `path` when the
    block succeeds and is removed when it fails. Leftovers of a killed process are removed first.

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
                f"no room for {path}: {free / 2**20:.1f} MiB were free; nothing was written"
            ) from error
        raise


def write_json(path: Path, content: object) -> None:
    """Write `content` as JSON, atomically."""
    with atomic(path) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Remove a file or folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_room(folder: Path, needed: int) -> None:
    """Raise the system's "no space left" when fewer than `needed` bytes are free: HDF5 cannot close
    a file after a failed write.
    """
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def is_full(error: BaseException, free: int) -> bool:
    """Return whether `error` means that the disk is full. GDAL, HDF5 and torch do not always keep
    the error number: any error with less than 64 KiB `free` counts, too.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        if os.strerror(errno.ENOSPC) in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return isinstance(error, Exception) and free < 2**16
