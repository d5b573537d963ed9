"""Cores this process may use, read from made cgroup trees of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model.cores import available_cores, available_memory


@pytest.fixture(autouse=True)
def _sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)


def v2(root: Path, text: str) -> Path:
    (root / "cpu.max").write_text(text)
    return root


def v1(root: Path, quota: str, period: str) -> Path:
    (root / "cpu").mkdir()
    (root / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (root / "cpu" / "cpu.cfs_period_us").write_text(f"{period}\n")
    return root


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 16),
        ("400000 100000\n", 4),
        ("350000 100000\n", 3),
        ("50000 100000\n", 1),
        ("1000 100000\n", 1),
        ("6400000 100000\n", 16),
        ("300000 50000\n", 6),
        ("0 0\n", 16),
        ("", 16),
        ("nonsense\n", 16),
    ],
)
def test_a_version_2_quota_is_rounded_down_but_never_below_one(
    tmp_path: Path, text: str, cores: int
) -> None:
    assert available_cores(v2(tmp_path, text)) == cores


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [
        ("-1", "100000", 16),
        ("250000", "100000", 2),
        ("20000", "100000", 1),
        ("9900000", "100000", 16),
        ("100000", "0", 16),
    ],
)
def test_a_version_1_quota_says_the_same(
    tmp_path: Path, quota: str, period: str, cores: int
) -> None:
    assert available_cores(v1(tmp_path, quota, period)) == cores


def test_without_a_cgroup_the_affinity_decides(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "nowhere") == 16


def test_half_a_version_1_tree_is_no_quota(tmp_path: Path) -> None:
    (v1(tmp_path, "200000", "100000") / "cpu" / "cpu.cfs_period_us").unlink()
    assert available_cores(tmp_path) == 16


def test_version_2_wins_over_version_1(tmp_path: Path) -> None:
    assert available_cores(v2(v1(tmp_path, "200000", "100000"), "500000 100000\n")) == 5


def test_the_affinity_limits_a_generous_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert available_cores(v2(tmp_path, "800000 100000\n")) == 2


def test_where_there_is_no_affinity_the_machine_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cores(tmp_path) == 64
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores(tmp_path) == 1


def test_this_machine_has_a_core() -> None:
    assert 1 <= available_cores() <= 16


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "2147483648\n"}, 2_147_483_648),
        ({"memory.max": "max\n"}, 8_000_000 * 1024),
        ({"memory/memory.limit_in_bytes": "1000000\n"}, 1_000_000),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8_000_000 * 1024),
        ({}, 8_000_000 * 1024),
    ],
)
def test_memory_is_the_lower_of_the_machine_and_the_cgroup(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:        8000000 kB\nMemFree:  1 kB\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path, meminfo) == expected


def test_memory_that_nobody_tells_is_unknown(tmp_path: Path) -> None:
    assert available_memory(tmp_path, tmp_path / "none") is None
