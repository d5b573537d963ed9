"""schemathesis over the whole OpenAPI document of a server of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from tests.chaos.server import Server
from tests.world.world import World

SEED = 1
CALL = "from schemathesis.cli import schemathesis; schemathesis()"


def missing() -> str | None:
    """Why it cannot be played, or None."""
    return None if find_spec("schemathesis") else "schemathesis is not installed"


def play(world: World, model: Path, folder: Path, examples: int) -> Counter[str]:
    """Return the statuses of all requests; RuntimeError when one was 500 or the process ended."""
    server = Server(folder, "--imagery", world.directory, model=model)
    server.start()
    try:
        command = [
            sys.executable, "-c", CALL, "run",
            f"http://127.0.0.1:{server.port}/api", "--checks", "not_a_server_error",
            "--max-examples", str(examples), "--seed", str(SEED), "--phases",
            "examples,coverage,fuzzing", "--suppress-health-check", "all", "--no-color",
            "--generation-database", "none", "--mode", "all", "--request-timeout", "60",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        _, metrics = server.get("/metrics")
        pattern = r'^landcover_requests_total\{.*status="(\d+)".*\} ([0-9.e+]+)$'
        answers: Counter[str] = Counter()
        for status, count in re.findall(pattern, metrics.decode(), re.MULTILINE):
            answers[status] += int(float(count))
        if done.returncode or answers["500"] or server.process.poll() is not None:
            raise RuntimeError(
                f"schemathesis: {done.returncode}\n{done.stdout[-6000:]}{done.stderr}"
            )
        return answers
    finally:
        server.stop()
