"""Check a cache directory at rest: every entry is read and compared with its digest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.cache.disk import decode_entry
from app.grid.classified import ClassifiedBlock

_KEY = re.compile(r"[0-9a-f]{8,128}")


@dataclass(frozen=True, slots=True)
class CheckedEntry:
    """An entry that was read. `damage`: what is wrong with it; None: it is as it was written."""

    path: Path
    nbytes: int
    damage: str | None


def check_entries(root: Path) -> Iterator[CheckedEntry]:
    """Read every block below a cache directory, in the order of their keys.

    Files that are no entries (indexes, half-written parts, anything foreign) are left out; so is
    an entry that disappears meanwhile: a server may be using the directory.
    """
    for folder in sorted(root.glob("[0-9a-f][0-9a-f]")):
        for path in sorted(folder.iterdir()):
            if _KEY.fullmatch(path.name):
                try:
                    data = path.read_bytes()
                except FileNotFoundError:
                    continue
                except OSError as error:
                    yield CheckedEntry(path, 0, f"cannot be read: {error.strerror}")
                    continue
                yield CheckedEntry(path, len(data), _damage_of(path, data))


def _damage_of(path: Path, data: bytes) -> str | None:
    if not path.name.startswith(path.parent.name):
        return f"lies in {path.parent.name}, the folder of other keys"
    payload = decode_entry(path.name, data)
    if payload is None:
        return "differs from its digest"
    try:
        ClassifiedBlock.decode(payload)
    except ValueError as error:
        return f"holds no block: {error}"
    return None
