"""Public STAC APIs that list NAIP, and how they are read."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Free of charge, no account. Tokens of some 45 minutes, rate limits without a subscription key.
    # Containers have been closed to anonymous reading before: unsigned first, signed if refused.
    "planetary-computer": {
        "url": "https://planetarycomputer.microsoft.com/api/stac/v1",
        "collection": "naip",
        "asset": "image",
        "signing": "auto",
        "token_url": (
            "https://planetarycomputer.microsoft.com/api/sas/v1/token/{account}/{container}"
        ),
    },
    # A catalog of s3://naip-analytic, which charges the reader. requester_pays is not part of
    # the preset: who pays has to say so.
    "earth-search": {
        "url": "https://earth-search.aws.element84.com/v1",
        "collection": "naip",
        "asset": "image",
        "region": "us-west-2",
    },
}
