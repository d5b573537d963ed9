"""`python -m tests.benchmarks.files_entered`: which files of app/ one request runs code of."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from starlette.testclient import TestClient

from app.grid.tile import TMS
from app.main import create_app
from app.settings import Settings
from tests.world.doubles import doubles
from tests.world.graphs import write_model
from tests.world.scenes import lonlat
from tests.world.stac import item_of
from tests.world.world import two_quads

APP = Path(__file__).parents[2] / "app"


@contextmanager
def entered() -> Iterator[set[str]]:
    """Collect the files of app/ in which a function is called, in any thread.

    The threads must be started inside: Python tells the calls of those only.
    """
    files: set[str] = set()

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            files.add(frame.f_code.co_filename)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield files
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def within_app(files: set[str]) -> list[str]:
    """Return those under app/, relative to it, sorted; `__init__` of app itself left out."""
    return sorted(str(Path(f).relative_to(APP)) for f in files if Path(f).is_relative_to(APP))


def main() -> None:
    """Print the files that a cold tile of a folder, a cold tile of a signed STAC source and the
    same tile once more run code of."""
    with tempfile.TemporaryDirectory() as folder, doubles(closed=409) as services:
        world = two_quads(Path(folder) / "naip")
        model = write_model(Path(folder) / "model.onnx")
        services.items = [item_of(made, services.add(made.path)) for made in world.scenes]
        config = Path(folder) / "sources.toml"
        config.write_text(
            f'[[source]]\nid = "pc"\ntype = "stac-api"\nurl = "{services.stac_url}"\n'
            f'collection = "naip"\nsigning = "auto"\ntoken_url = "{services.token_url}"\n'
            f'token_hosts = ["{services.host}"]\n'
        )
        settings = {
            "imagery": world.directory,
            "sources": config,
            "model": model,
            "refresh_s": 0,
            "probe_s": 0,
        }
        x, y = (world.scenes[0].bounds[0] + 600, world.scenes[0].bounds[1] + 600)
        longitude, latitude = lonlat(world.scenes[0].epsg, x, y)
        with (
            entered() as files,
            TestClient(create_app(Settings.model_validate(settings))) as client,
        ):
            for name, query in (("folder, cold", ""), ("STAC, cold", "pc"), ("STAC, warm", "pc")):
                address = _address(longitude, latitude) + (f"?source={query}" if query else "")
                files.clear()
                if client.get(address).status_code != 200:
                    raise RuntimeError(f"{address} cannot be served")
                app = within_app(set(files))
                imagery = [each for each in app if each.startswith("imagery/")]
                print(f"{name}: {len(app)} files, {len(imagery)} of them of imagery")
                print("  " + " ".join(app))


def _address(longitude: float, latitude: float) -> str:
    tile = TMS.tile(longitude, latitude, 17)
    return f"/tiles/WebMercatorQuad/{tile.z}/{tile.x}/{tile.y}.png"


if __name__ == "__main__":
    main()
