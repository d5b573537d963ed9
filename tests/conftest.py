"""The house rules of the tests: a clean environment, no network, and the made world.

Every world is a session fixture, written on first use and never changed; a test that changes
files writes its own with the functions of `tests.world`.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from model.session import Session
from tests.world import graphs, world

FOREIGN = ("LANDCOVER_", "AWS_", "GDAL_", "CPL_", "VSI_")
"""Prefixes of variables that would change what is tested."""

ALONE = ("app", "chaos")
"""Folders of tests that may be marked `alone`, as in the Makefile."""

REAL_DATA = Path(
    os.environ.get("LANDCOVER_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
)


def pytest_configure() -> None:
    """Wipes the environment before any test module is imported; no deadlines on busy cores."""
    for name in _foreign():
        del os.environ[name]
    # Which engine is the fastest here is measured by the tests of that alone.
    os.environ["LANDCOVER_ENGINE"] = "onnxruntime"
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="landcover-tests-")
    settings.register_profile("house", deadline=None)
    settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that `make test` would leave out: it runs `alone` ones in ALONE only."""
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if "alone" in marks and "slow" not in marks and folder not in ALONE:
            raise pytest.UsageError(f"{item.nodeid}: `alone` belongs in {' or '.join(ALONE)}")


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """What a test sets among these variables does not outlive it."""
    before = _foreign()
    yield
    for name in _foreign():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Sockets connect to this machine only; GDAL's own (curl) are not reached by this."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _local_only(getattr(socket.socket, name)))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real imagery and labels; skips where there is none."""
    if not (REAL_DATA / "labels" / "chips.csv").exists():
        pytest.skip(f"no real imagery in {REAL_DATA} (set LANDCOVER_TEST_DATA)")
    return REAL_DATA


@pytest.fixture(scope="session")
def two_quads(tmp_path_factory: pytest.TempPathFactory) -> world.World:
    """Two overlapping scenes of one date, 1,500 × 1,200 px at 1 m."""
    return world.two_quads(tmp_path_factory.mktemp("two_quads"))


@pytest.fixture(scope="session")
def alpha_quads(tmp_path_factory: pytest.TempPathFactory) -> world.World:
    """`two_quads` with the fourth band tagged alpha."""
    return world.alpha_quads(tmp_path_factory.mktemp("alpha_quads"))


@pytest.fixture(scope="session")
def collar_quads(tmp_path_factory: pytest.TempPathFactory) -> world.World:
    """`two_quads` turned in collars of zeros."""
    return world.collar_quads(tmp_path_factory.mktemp("collar_quads"))


@pytest.fixture(scope="session")
def fine_quads(tmp_path_factory: pytest.TempPathFactory) -> world.World:
    """The ground of `two_quads` at 0.6 m."""
    return world.fine_quads(tmp_path_factory.mktemp("fine_quads"))


@pytest.fixture(scope="session")
def two_years(tmp_path_factory: pytest.TempPathFactory) -> world.World:
    """One place in 2017 and 2019."""
    return world.two_years(tmp_path_factory.mktemp("two_years"))


@pytest.fixture(scope="session")
def utm_seam(tmp_path_factory: pytest.TempPathFactory) -> world.World:
    """A scene in zone 16 and one in zone 17 that meet at 84° W."""
    return world.utm_seam(tmp_path_factory.mktemp("utm_seam"))


@pytest.fixture(scope="session")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """kind → a file of that kind, for every kind of `tests.world.scenes.BAD_FILES`."""
    return world.bad_files(tmp_path_factory.mktemp("bad_files"))


@pytest.fixture(scope="session")
def pixelwise_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .onnx of `pixelwise`, its card beside it."""
    return graphs.write_model(tmp_path_factory.mktemp("models") / "pixelwise.onnx", "pixelwise")


@pytest.fixture(scope="session")
def neighborhood_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .onnx of `neighborhood`, its card beside it."""
    folder = tmp_path_factory.mktemp("models")
    return graphs.write_model(folder / "neighborhood.onnx", "neighborhood")


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .onnx of `slow` (about 1 s a block, classes of `pixelwise`), its card beside it."""
    return graphs.write_model(tmp_path_factory.mktemp("models") / "slow.onnx", "slow")


@pytest.fixture(scope="session")
def pixelwise(pixelwise_model: Path) -> Session:
    """A session on `pixelwise`."""
    return Session.load(pixelwise_model)


@pytest.fixture(scope="session")
def neighborhood(neighborhood_model: Path) -> Session:
    """A session on `neighborhood`."""
    return Session.load(neighborhood_model)


@pytest.fixture(scope="session")
def slow(slow_model: Path) -> Session:
    """A session on `slow`."""
    return Session.load(slow_model)


def _foreign() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(FOREIGN)}


def _local_only(connect: Callable[..., Any]) -> Callable[..., Any]:
    def checked(self: socket.socket, address: Any) -> Any:  # noqa: ANN401
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise RuntimeError(f"a test must not reach {address}: only loopback is allowed")
        return connect(self, address)

    return checked


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
