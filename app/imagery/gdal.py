"""GDAL's environment, set in code, with the reason for each knob.

Wheels for Python 3.11 carry GDAL 3.10, later ones 3.12: nothing is left to defaults. The
process environment is used because GDAL reads it in every thread; an operator's own value wins.
"""

from __future__ import annotations

import os
import warnings

from rasterio.errors import NotGeoreferencedWarning

UNSAFE_DRIVERS = (
    # Formats that are text naming other files or addresses: each can read what it should not. Not
    # netCDF: the GDAL in pyogrio has none, and would say so in every process.
    "VRT,WMS,WMTS,WCS,HTTP,GTI,STACIT,STACTA,PLMosaic,EEDA,EEDAI,DAAS,OGCAPI,Zarr"
)

KNOBS: dict[str, str] = {
    "GDAL_SKIP": UNSAFE_DRIVERS,
    # A directory listing per open costs a request (or a huge LIST) and finds nothing we use.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # No side files: an .aux.xml beside an image must not change what it says.
    "GDAL_PAM_ENABLED": "NO",
    # GDAL has no business on the network: remote files reach it as bytes (store.opener).
    # Should anything ever hand it an address, no name ends like this and no wait is endless.
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GDAL_HTTP_TIMEOUT": "10",
    "GDAL_HTTP_CONNECTTIMEOUT": "3",
    # The first bytes of a file, in one piece: what app.imagery.store fetches first.
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    # All internal tiles of a window in one call, however many (by default up to 10 MB of them).
    "GDAL_MAX_RAW_BLOCK_CACHE_SIZE": "67108864",
    # Not set on purpose: GDAL_NUM_THREADS (silent corruption on disconnect, OSGeo/gdal#11552);
    # VSI_CACHE (5 MB for every open file of every thread, beside GDAL's own block cache).
}


def configure(cache_mb: int = 64) -> None:
    """Set the knobs for this process; call before the first file is opened."""
    for name, value in KNOBS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("GDAL_CACHEMAX", str(cache_mb))
    # Such a file is refused with a reason of its own.
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
