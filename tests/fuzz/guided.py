"""atheris: inputs guided by the coverage of our parsers, a process of its own.

`python -m tests.fuzz.guided RUNS` ends with status 0 unless a parser raised an undeclared error.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

SEED = 1


def missing() -> str | None:
    """Why it cannot be played, or None."""
    return None if find_spec("atheris") else "atheris is not installed"


def play(runs: int) -> int:
    """Throw so many inputs at every parser, each in turn; RuntimeError when one fails."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.guided", str(runs)],
            capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, cwd=folder,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(
            f"atheris: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return runs


def _main(runs: int) -> None:
    import atheris  # type: ignore[import-untyped,unused-ignore]

    with atheris.instrument_imports(include=["app", "model"]):
        from app.area.geojson import read_areas
        from app.cache.disk import decode_entry
        from app.errors import LandcoverError
        from app.grid.classified import ClassifiedBlock
        from app.routes.schemas import parse_tile
        from model.card import ModelCard
        from model.errors import CardError

    declared = (LandcoverError, CardError)

    def tile(data: bytes) -> None:
        parts = data.decode("latin-1").split("/", 4)
        path = [*parts[:4], "17", "33000", "52000"][:3]
        query = parts[4].encode("latin-1") if len(parts) > 4 else data
        parse_tile("WebMercatorQuad", path[0], path[1], path[2], query)

    def entry(data: bytes) -> None:
        decode_entry("ab" * 20, data)
        with contextlib.suppress(ValueError):
            ClassifiedBlock.decode(data)

    targets = (
        lambda data: read_areas(data, 1000),
        tile,
        entry,
        lambda data: ModelCard.parse(data, "fuzz"),
    )

    def one(data: bytes) -> None:
        if data:
            with contextlib.suppress(*declared):
                targets[data[0] % len(targets)](data[1:])

    corpus = Path("corpus")
    corpus.mkdir(exist_ok=True)
    ring = b"[[-87,33],[-86.9,33],[-86.9,33.1],[-87,33]]"
    seeds = (
        b'\x00{"type":"Polygon","coordinates":[' + ring + b"]}",
        b'\x00{"type":"Feature","id":1,"properties":{},"geometry":{"type":"MultiPolygon",'
        b'"coordinates":[[' + ring + b"]]}}",
        b"\x0117/33000/52000.png/x/year=2017&layer=class&classes=1,5",
        b'\x0117/1/2@2x.webp/x/colormap={"1":"#ff0000"}&min_confidence=50',
        b"\x02LCB2" + bytes(40),
        b'\x03{"name":"a","version":"1.0","mean":[0,0,0,0],"std":[1,1,1,1],"license":"MIT"}',
    )
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
    arguments = [sys.argv[0], f"-runs={runs}", f"-seed={SEED}", "-max_len=4096", "-timeout=10"]
    atheris.Setup([*arguments, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    _main(int(sys.argv[1]))
