"""A directory on a disk that hangs: known to be missing, and nobody waits for it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from app.imagery.catalog import presence
from app.imagery.catalog.presence import Presence


def test_a_directory_that_goes_and_comes_back_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "KNOWN_S", 0.0)
    folder = tmp_path / "naip"
    there = Presence(folder)
    assert there.missing() == f"{folder}: no such directory"
    folder.mkdir()
    assert there.missing() is None


def test_a_disk_that_hangs_holds_nobody_up_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = threading.Event(), []

    class Hung(type(tmp_path)):  # type: ignore[misc]
        def exists(self, **_: bool) -> bool:
            asked.append(1)
            return answers.wait(60)

    there = Presence(Hung(tmp_path))
    waited = []
    for _ in range(50):
        began = time.monotonic()
        assert there.missing() is None  # it was there when last heard of
        waited.append(time.monotonic() - began)
    assert len(asked) == 1
    assert sorted(waited)[-2] < presence.WAIT_S  # the first call alone waits
    monkeypatch.setattr(presence, "PATIENCE_S", 0.0)
    assert "the disk has not answered" in str(there.missing())
    answers.set()
    deadline = time.monotonic() + 10
    while there.missing() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert there.missing() is None
