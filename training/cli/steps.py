"""Steps of a run: repeated only when their inputs or outputs have changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.files import is_full, remove, sha256, write_json
from training.errors import StepError
from training.progress import Bar, progress_bar

RECORD = "run.json"


@dataclass(frozen=True)
class Step:
    """A step. inputs: digests or settings by name. outputs: files and folders in the run folder.
    continues: those of the inputs that must be the same for the step to continue from its former
    outputs; where they differ, the outputs are moved aside. None: the step begins anew, and its
    former outputs are removed. steps: how many steps of training it does, for its progress.
    """

    name: str
    inputs: dict[str, Any]
    outputs: tuple[str, ...]
    work: Callable[[Bar], None]
    continues: dict[str, Any] | None = None
    steps: int = 0

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the inputs."""
        return _digest(self.inputs)


def do(step: Step, folder: Path, record: dict[str, Any]) -> None:
    """Do a step unless nothing has changed, and record it.

    Raises StepError when there is no room, and what the step raises.
    """
    before = record["steps"].get(step.name, {})
    same = before.get("inputs") == step.digest
    done = "outputs" in before and (before["outputs"] or not step.outputs)
    if same and done and before["outputs"] == digests(folder, step.outputs):
        print(f"{step.name}: unchanged", flush=True)
        return
    entry: dict[str, Any] = {"inputs": step.digest}
    if step.continues is None:
        for name in step.outputs:
            remove(folder / name)
    else:
        entry["continues"] = {name: _digest(value) for name, value in step.continues.items()}
        changed = _changed(before, step, entry["continues"])
        for name in step.outputs if changed else ():
            _move_aside(step, folder / name, changed)
    record["steps"][step.name] = entry
    write_json(folder / RECORD, record)
    with progress_bar(step.name, step.steps) as bar:
        bar.log(f"{step.name}: …")
        try:
            step.work(bar)
        except (OSError, RuntimeError) as error:
            free = shutil.disk_usage(folder).free
            if is_full(error, free):
                raise StepError(
                    f"step {step.name}: no room in {folder} ({free / 2**20:.1f} MiB free); "
                    "make room and run it again"
                ) from error
            raise
        bar.update(1.0)
    record["steps"][step.name]["outputs"] = digests(folder, step.outputs)
    write_json(folder / RECORD, record)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _changed(before: dict[str, Any], step: Step, now: dict[str, str]) -> list[str]:
    """Return the names of what keeps a step from continuing where it stopped."""
    kept = before.get("continues")
    if kept is None:  # of a version that did not record it
        return [] if before.get("inputs") == step.digest else ["settings"]
    return sorted(name for name in {*now, *kept} if now.get(name) != kept.get(name))


def _move_aside(step: Step, path: Path, changed: Sequence[str]) -> None:
    if not path.exists():
        return
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    path.rename(aside)
    print(
        f"{step.name}: begins anew, as {', '.join(changed)} changed; what there was is kept in "
        f"{aside}",
        flush=True,
    )


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a run folder; StepError when the folder contains something else."""
    path = folder / RECORD
    if not path.is_file():
        if any(p.name[0] != "." for p in folder.iterdir()):
            raise StepError(f"{folder} is not empty and not a run ({RECORD}): give a new folder")
        return {"steps": {}}
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        record["steps"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StepError(f"{path} is not the record of a run: {error!r}") from error
    return record


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of the files, and of the files in the folders, of these names."""
    result: dict[str, str] = {}
    for name in names:
        path = folder / name
        members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for member in members:
            if member.is_file():
                result[member.relative_to(folder).as_posix()] = sha256(member)
    return result


def commit() -> str | None:
    """Return the commit of this program, with a + if files differ from it; None outside git."""
    here = Path(__file__).parents[1]

    def git(*words: str) -> str:
        answer = subprocess.run(  # noqa: S603
            ["git", "-C", str(here), *words],  # noqa: S607
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return answer.stdout.strip()

    try:
        if not git("ls-files", "--", "cli/steps.py"):
            return None
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
