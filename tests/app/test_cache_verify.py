"""`landcover cache verify`: damaged entries are named, and removed on request."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from app.cache.disk import DiskStore, encode_entry
from app.cli import cli
from app.grid.classified import ClassifiedBlock
from model.windows import BLOCK

KEYS = [f"{number:02x}" * 20 for number in range(1, 41)]


def verify(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["cache", "verify", *map(str, arguments)])


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    """Forty sound blocks."""
    store = DiskStore(tmp_path / "cache", 10**9)
    classes = np.ones((BLOCK, BLOCK), np.uint8)
    for key in KEYS:
        store.put(key, ClassifiedBlock(classes, classes).encode())
    return store


def path_of(store: DiskStore, key: str) -> Path:
    return store.root / key[:2] / key


def named(result: Result) -> list[str]:
    """The keys of the lines on standard output."""
    return [Path(line.split(": ")[0]).name for line in result.stdout.splitlines()]


def test_sound_entries_pass(store: DiskStore) -> None:
    (store.root / "index-county.json").write_text("{}")
    result = verify(store.root)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "40 entries" in result.stderr
    assert ": 0 damaged" in result.stderr


def test_a_single_bit_anywhere_is_found(store: DiskStore) -> None:
    draw = random.Random(3)
    flipped = draw.sample(KEYS, 30)
    for key in flipped:
        data = bytearray(path_of(store, key).read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path_of(store, key).write_bytes(data)
    result = verify(store.root)
    assert result.exit_code == 1
    assert named(result) == sorted(flipped)
    assert all(path_of(store, key).exists() for key in KEYS), "nothing is removed unasked"


def test_damaged_entries_are_removed_and_no_other(store: DiskStore) -> None:
    cut, foreign, misplaced, no_block = KEYS[:4]
    path_of(store, cut).write_bytes(path_of(store, cut).read_bytes()[:100])
    # An entry copied under another key, and one in the folder of other keys.
    path_of(store, foreign).write_bytes(path_of(store, KEYS[9]).read_bytes())
    path_of(store, misplaced).rename(store.root / KEYS[9][:2] / misplaced)
    path_of(store, no_block).write_bytes(encode_entry(no_block, b"\0\0\0\0no block"))
    result = verify(store.root, "--delete")
    assert result.exit_code == 1
    assert sorted(named(result)) == sorted([cut, foreign, no_block, misplaced])
    assert "4 damaged, 4 deleted" in result.stderr
    assert sorted(p.name for p in store.root.glob("*/*")) == sorted(KEYS[4:])
    assert verify(store.root).exit_code == 0


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    result = verify(tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "nowhere: no such directory" in result.stderr
