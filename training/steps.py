"""Steps of a run: done again only when what goes in, or what came out, has changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import StepError
from training.files import is_full, remove, sha256, write_json
from training.progress import Bar, bar

RECORD = "run.json"


@dataclass(frozen=True)
class Step:
    """inputs: names of what goes in → digests or settings. outputs: files and folders in the run
    folder. goes_on: a cut-off step with the same inputs takes up what it left.
    """

    name: str
    inputs: dict[str, Any]
    outputs: tuple[str, ...]
    work: Callable[[Bar], None]
    goes_on: bool = False

    @property
    def digest(self) -> str:
        text = json.dumps(self.inputs, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def do(step: Step, folder: Path, record: dict[str, Any]) -> None:
    """Does a step unless nothing has changed, and notes it in the record.

    Raises StepError when there is no room, and what the step raises.
    """
    before = record["steps"].get(step.name, {})
    same = before.get("inputs") == step.digest
    if same and before.get("outputs") and before["outputs"] == digests(folder, step.outputs):
        print(f"{step.name}: unchanged", flush=True)
        return
    if not (same and step.goes_on):
        for name in step.outputs:
            remove(folder / name)
    record["steps"][step.name] = {"inputs": step.digest}
    write_json(folder / RECORD, record)
    with bar(step.name) as shown:
        shown.say(f"{step.name}: …")
        try:
            step.work(shown)
        except (OSError, RuntimeError) as error:
            free = shutil.disk_usage(folder).free
            if is_full(error, free):
                raise StepError(
                    f"step {step.name}: no room in {folder} ({free / 2**20:.1f} MiB free); "
                    "make room and run it again"
                ) from error
            raise
        shown.to(1.0)
    record["steps"][step.name]["outputs"] = digests(folder, step.outputs)
    write_json(folder / RECORD, record)


def read_record(folder: Path) -> dict[str, Any]:
    """What the folder says was done; StepError when it holds something else."""
    path = folder / RECORD
    if not path.is_file():
        if any(p.name[0] != "." for p in folder.iterdir()):
            raise StepError(f"{folder} holds something, but no run ({RECORD}): give a new folder")
        return {"steps": {}}
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        record["steps"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StepError(f"{path} is not the record of a run: {error!r}") from error
    return record


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the files, and of the files in the folders, there are by these names."""
    found: dict[str, str] = {}
    for name in names:
        path = folder / name
        members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for member in members:
            if member.is_file():
                found[member.relative_to(folder).as_posix()] = sha256(member)
    return found


def commit() -> str | None:
    """The commit this program runs from, with a + where files differ from it; None outside git."""
    here = Path(__file__).parent

    def ask(*words: str) -> str:
        answer = subprocess.run(  # noqa: S603
            ["git", "-C", str(here), *words],  # noqa: S607
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return answer.stdout.strip()

    try:
        if not ask("ls-files", "--", str(Path(__file__).name)):
            return None
        return ask("rev-parse", "HEAD") + ("+" if ask("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
