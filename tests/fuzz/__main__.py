"""`make fuzz`: more than 12,000 generated inputs, none of which may give 500 or a traceback.

`python -m tests.fuzz [FACTOR]` makes FACTOR times as many (1). Writes the table of
docs/reliability.md when FACTOR is 1 or more. Exits with status 1 at an undeclared answer.
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.chaos.report import machine, write
from tests.fuzz import api, guided
from tests.fuzz.kinds import kinds_of
from tests.world.graphs import write_model
from tests.world.world import two_quads

API_EXAMPLES, GUIDED_RUNS = 30, 20_000
HEAD = "| inputs | how many | answered | undeclared errors | seconds |\n|---|--:|---|--:|--:|\n"


class Table:
    """The rows so far."""

    def __init__(self) -> None:
        self.text = HEAD
        self.total = self.errors = 0
        print(HEAD, end="")

    def play(self, name: str, throw: Callable[[], Counter[str]]) -> None:
        """Add a row of what a kind of input was answered."""
        began, failed = time.monotonic(), 0
        try:
            answers = throw()
        except Exception:  # whatever an input provokes is the finding
            traceback.print_exc()
            answers, failed = Counter(), 1
        count = sum(answers.values())
        self.total += count
        self.errors += failed
        shown = ", ".join(f"{answer} × {n}" for answer, n in sorted(answers.items()))
        row = f"| {name} | {count:,} | {shown} | {failed} | {time.monotonic() - began:.0f} |\n"
        self.text += row
        print(row, end="", flush=True)


def main() -> int:
    """Return 1 when something undeclared came of an input."""
    factor = float(sys.argv[1]) if sys.argv[1:] else 1.0
    table, skipped = Table(), []
    with tempfile.TemporaryDirectory(prefix="landcover-fuzz-") as name:
        folder = Path(name)
        world = two_quads(folder / "two_quads")
        model = write_model(folder / "models" / "pixelwise.onnx", "pixelwise")
        app = create_app(Settings(imagery=world.directory, model=model, engine="onnxruntime"))
        with TestClient(app, raise_server_exceptions=False) as client:
            for kind in kinds_of(client, world, folder):
                examples = max(1, round(kind.share * factor / kind.weight))
                table.play(kind.name, lambda: kind.play(examples))  # noqa: B023
        if why := api.missing():
            skipped.append(f"OpenAPI (schemathesis) not played: {why}")
        else:
            count = max(1, round(API_EXAMPLES * factor))
            table.play(
                "OpenAPI (schemathesis)", lambda: api.play(world, model, folder / "api", count)
            )
        if why := guided.missing():
            skipped.append(f"parsers (atheris) not played: {why}")
        else:
            runs = max(1, round(GUIDED_RUNS * factor))
            table.play(
                "parsers, guided by coverage (atheris)",
                lambda: Counter({"answered": guided.play(runs)}),
            )
    summary = f"{table.total:,} inputs, {table.errors} kinds with an undeclared error."
    print("\n" + "\n".join([summary, *skipped]))
    if factor >= 1:
        notes = "".join(f"\n{line}.\n" for line in skipped)
        write("fuzz", f"{machine()}\n\n{summary}\n\n{table.text}{notes}")
    return 1 if table.errors else 0


if __name__ == "__main__":
    sys.exit(main())
