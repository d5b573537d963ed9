"""The QGIS plugin Deepness itself, where QGIS and it are installed.

DEEPNESS_PLUGIN=CHECKOUT/src   of PUTvision/qgis-plugin-deepness
DEEPNESS_LIBRARIES=FOLDER      pip install --no-deps --target FOLDER opencv-python-headless
                               onnxruntime flatbuffers protobuf packaging
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.app.gis import SYSTEM_PYTHON, has_qgis, plain

JUDGE = Path(__file__).with_name("deepness_judge.py")
FOLDERS = ("DEEPNESS_PLUGIN", "DEEPNESS_LIBRARIES")


def missing() -> str:
    """What is not here to run the plugin; empty when all is."""
    if not all(os.environ.get(name) for name in FOLDERS):
        return f"the plugin is not here: set {' and '.join(FOLDERS)}"
    return "" if has_qgis() else "no QGIS (apt-get install python3-qgis)"


def run_plugin(model: Path, raster: Path, out: Path) -> dict[str, Any]:
    """What the plugin makes of a model file and a raster; the classes as .npy in `out`."""
    task = {"model": str(model), "raster": str(raster), "out": str(out)}
    search = os.pathsep.join(os.environ[name] for name in FOLDERS)
    done = subprocess.run(
        [SYSTEM_PYTHON, str(JUDGE)],
        check=False,
        input=json.dumps(task),
        capture_output=True,
        text=True,
        env=plain() | {"PYTHONPATH": search, "HOME": str(out.parent)},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("DEEPNESS-JUDGE:")]
    assert lines, (done.returncode, done.stderr[-3000:])
    answer: dict[str, Any] = json.loads(lines[0].removeprefix("DEEPNESS-JUDGE:"))
    return answer
