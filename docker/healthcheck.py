"""Exit code 0 when the service is ready: what the container's health is."""

import http.client
import os
import sys

port = int(os.environ.get("LANDCOVER_PORT", "8000"))
try:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    connection.request("GET", os.environ.get("LANDCOVER_ROOT_PATH", "") + "/readyz")
    status = connection.getresponse().status
except OSError as error:
    sys.exit(f"not ready: {error}")
sys.exit(0 if status == 200 else f"not ready: {status}")
