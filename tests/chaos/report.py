"""The table of `make chaos`: on the terminal, and between the markers of docs/reliability.md."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from model.cores import available_cores
from tests.benchmarks.report import processor_name
from tests.chaos.trial import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
HEAD = (
    "| fault | times | answers checked | wrong pixels | answers | recovery | worst `/healthz` "
    "(idle process) | warm tiles, p99 | promise |\n"
    "|---|--:|--:|--:|---|--:|--:|--:|---|\n"
)


def row_of(outcome: Outcome) -> str:
    """Return a row of the table."""
    codes = ", ".join(f"{code} × {n}" for code, n in sorted(outcome.codes.items()))
    verdict = "kept" if outcome.kept else "**broken**: " + "; ".join(outcome.problems)
    notes = "".join(f"; {note}" for note in outcome.notes)
    return (
        f"| {outcome.name} | {outcome.times} | {outcome.tiles} | {outcome.wrong} | {codes} "
        f"| {_seconds(outcome.recovery)} "
        f"| {outcome.health * 1000:.0f} ms ({outcome.health_control * 1000:.0f}) "
        f"| {outcome.warm_p99 * 1000:.0f} ms | {verdict}{notes} |\n"
    )


def summary_of(outcomes: Sequence[Outcome]) -> str:
    """Return one line about all faults together."""
    recoveries = [o.recovery for o in outcomes if o.recovery is not None]
    broken = [o for o in outcomes if not o.kept]
    return (
        f"{len(outcomes)} kinds of faults, {sum(o.times for o in outcomes):,} times: "
        f"{sum(o.tiles for o in outcomes):,} answers checked, "
        f"{sum(o.wrong for o in outcomes)} with wrong pixels; longest recovery "
        f"{_seconds(max(recoveries, default=0.0))}, worst `/healthz` "
        f"{max((o.health for o in outcomes), default=0.0) * 1000:.0f} ms; "
        f"{len(broken)} promises broken."
    )


def write(section: str, text: str, page: Path = PAGE) -> None:
    """Put a text between the markers `<!-- SECTION -->` and `<!-- /SECTION -->` of the page."""
    content = page.read_text()
    begin, end = f"<!-- {section} -->\n", f"<!-- /{section} -->"
    before, _, rest = content.partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}{text}{end}{after}")


def machine() -> str:
    """Return when and on what it was measured."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d} · {processor_name()}, {available_cores()} cores · "
        f"Python {platform.python_version()}"
    )


def write_chaos(outcomes: Sequence[Outcome]) -> None:
    """Write the table of all faults."""
    rows = "".join(map(row_of, outcomes))
    write("chaos", f"{machine()}\n\n{summary_of(outcomes)}\n\n{HEAD}{rows}")


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return "never" if value == math.inf else f"{value:.1f} s"
