"""On the server's PYTHONPATH: host names do not resolve while a file exists."""

from __future__ import annotations

import os
import socket
from typing import Any

_resolve = socket.getaddrinfo


def _getaddrinfo(host: Any, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
    text = host.decode() if isinstance(host, bytes) else host
    is_name = isinstance(text, str) and not text.replace(".", "").isdigit() and ":" not in text
    if is_name and text and os.path.exists(os.environ.get("CHAOS_NO_NAMES", "")):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _resolve(host, *arguments, **named)


socket.getaddrinfo = _getaddrinfo
