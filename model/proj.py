"""Which PROJ database the packages use: the one that each brings."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

FOLDERS = {"rasterio": "proj_data", "pyproj": "proj_dir/share/proj"}
"""Where the packages that bring a PROJ of their own keep its database."""


def use_own_proj() -> None:
    """Forget where another installation (QGIS, PostGIS, conda) has its PROJ database, which no
    other version of PROJ can read, if the packages here brought theirs.

    PROJ looks there first, and every CRS would be unknown. A build against the system's PROJ brings
    none: what it is told stays.
    """
    for package, folder in FOLDERS.items():
        spec = find_spec(package)
        roots = spec.submodule_search_locations if spec else None
        if not roots or not (Path(roots[0]) / folder / "proj.db").exists():
            return
    for name in ("PROJ_LIB", "PROJ_DATA"):
        os.environ.pop(name, None)
