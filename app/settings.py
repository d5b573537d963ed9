"""Every operator setting: LANDCOVER_<NAME> in the environment, or an option of the CLI.

The settings page of the docs is generated from this class.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

WEIGHTS = Path(__file__).parent.parent / "model" / "weights"
SHIPPED_MODEL = WEIGHTS / "landcover.onnx"


def shipped_models() -> dict[str, Path]:
    """Return the model files that ship, by name; those in 8 bits belong to the ones in 32."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.onnx")) if "." not in path.stem}


def model_file(value: object) -> object:
    """Return the path of a shipped model for its name, anything else unchanged. ValueError for a
    bare name that neither a shipped model nor a file has."""
    name = str(value)
    if not isinstance(value, str | Path) or not name or set(name) & set("./\\"):
        return value
    shipped = shipped_models()
    if name not in shipped and not Path(name).exists():
        raise ValueError(
            f"no model of that name ships; there are: {', '.join(shipped)}; "
            "or give the path of an .onnx file"
        )
    return shipped.get(name, value)


class Settings(BaseSettings):
    """Operator settings; every value is validated at startup."""

    model_config = SettingsConfigDict(env_prefix="LANDCOVER_", extra="forbid", frozen=True)

    imagery: Path | None = Field(
        None, description="directory or glob of NAIP GeoTIFFs to serve, as the first source"
    )
    sources: Path | None = Field(
        None, description="sources.toml file with named sources (docs/sources.md)"
    )
    title: str = Field("", description="title of that source; default: its directory's name")
    refresh_s: float = Field(
        60, ge=0, description="seconds between scans for new and changed files; 0: never"
    )
    probe_s: float = Field(
        1,
        ge=0,
        le=60,
        description="seconds between probes of a source that is unavailable; 0: only requests find "
        "out that it is back",
    )
    basemap: str = Field(
        "",
        pattern=r"^(https?://[\w.:-]+/\S*\{z\}\S*)?$",
        description="XYZ tiles below the map's imagery, https://host/{z}/{x}/{y}.png; unset: none, "
        "and the map loads nothing from other servers",
    )
    basemap_attribution: str = Field("", description="credit of the basemap, shown on the map")
    attribution: str = Field("Imagery: USDA NAIP (public domain)", description="shown on every map")
    model: Annotated[Path, BeforeValidator(model_file)] = Field(
        SHIPPED_MODEL, description="path of an .onnx model file, or the name of one that ships"
    )

    engine: str = Field(
        "auto",
        pattern=r"^(auto|(onnxruntime|openvino|cuda)(:(fp32|bf16|int8))?)$",
        description="what runs the model: `onnxruntime`, `openvino` or `cuda`, with `:fp32`, "
        "`:bf16` or `:int8`; `auto`: the fastest here whose classes agree",
    )
    join_blocks: Annotated[Literal[1, 2, 4], BeforeValidator(int)] = Field(
        2, description="neighboring blocks inferred in one window, along a side; memory: squared"
    )

    cache_dir: Path | None = Field(
        None, description="directory of the disk cache of classified blocks; unset: memory only"
    )
    cache_disk_mb: int = Field(4096, ge=1, description="size limit of the disk cache, MB")
    cache_memory_mb: int = Field(192, ge=0, description="memory cache of classified blocks, MB")
    rendered_memory_mb: int = Field(32, ge=0, description="memory cache of rendered tiles, MB")

    redis_url: SecretStr | None = Field(
        None,
        description="Redis shared by processes and replicas, redis://[user:password@]host:port/db; "
        "unset: processes on one machine share only the cache directory",
    )
    redis_timeout_s: float = Field(0.2, gt=0, le=5, description="timeout of a Redis call, seconds")
    redis_lease_s: float = Field(
        3,
        ge=0.5,
        le=60,
        description="lease on a block being computed; once expired, another worker takes over, s",
    )
    redis_keep_s: int = Field(
        604_800, ge=60, description="time to live of a block in Redis, seconds"
    )

    block_budget: int = Field(
        4,
        ge=0,
        le=1024,
        description="exact blocks that one tile request below native zoom waits for; with more "
        "missing it answers with an estimate",
    )
    area_blocks: int = Field(
        64, ge=1, description="blocks an area may need in one request; above: 413, use a job"
    )
    area_vertices: int = Field(
        1000, ge=4, description="vertices the polygons of one request may have in total"
    )
    body_kb: int = Field(1024, ge=1, description="size limit of a request body, kB")
    queue_blocks: int = Field(
        128, ge=1, description="blocks queued or running at once; above: 503 with Retry-After"
    )
    deadline_s: float = Field(60, gt=0, description="time limit of a request, seconds")
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="web processes; they divide threads, queue and memory caches",
    )
    infer_workers: int = Field(
        0, ge=0, description="inference threads, one block each; 0: one for each available core"
    )
    infer_nice: int = Field(
        10,
        ge=0,
        le=19,
        description="added to the nice value of threads that infer or read imagery, so that what "
        "answers gets a core first; 0 where other programs on the machine must not come first",
    )
    read_workers: int = Field(4, ge=1, le=64, description="threads that read imagery")
    gdal_cache_mb: int = Field(64, ge=16, description="GDAL's block cache, MB")

    jobs_dir: Path | None = Field(
        None, description="directory of jobs and their results; unset: lost when the server stops"
    )
    job_area_km2: float = Field(5000, gt=0, description="largest area of a job, km²")
    sync_area_km2: float = Field(
        25, gt=0, description="largest area of a process that runs while the client waits, km²"
    )
    jobs_queued: int = Field(32, ge=1, description="jobs that may wait in the queue; above: 503")
    jobs_per_client: int = Field(
        8, ge=1, description="jobs of one client that may wait or run; above: 429"
    )
    jobs_mb: int = Field(
        20_000, ge=1, description="size limit of the results of all jobs, MB; the oldest go first"
    )
    job_mb_per_client: int = Field(
        5_000, ge=1, description="size limit of the results of one client's jobs, MB; above: 429"
    )
    job_keep_h: float = Field(72, gt=0, description="hours the results of a job are kept")
    scheduler: str = Field(
        "",
        description="Dask scheduler that runs jobs, tcp://host:port; unset: this process",
    )

    operator_key: SecretStr | None = Field(
        None,
        description="key that lists and deletes everybody's jobs, 20 characters or more, or "
        "`sha256:` and its digest; unset: nobody does",
    )
    keys: Path | None = Field(
        None, description="keys.toml file with clients' keys and quotas (docs/operators.md)"
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    root_path: str = Field("", description="URL path under which a proxy publishes the service")
    trusted_proxies: tuple[str, ...] = Field(
        ("127.0.0.1", "::1"),
        description="proxies whose X-Forwarded-For, -Proto and -Host are believed, as JSON: "
        '["10.0.0.0/8"]; `["*"]`: any',
    )
    cors_origins: tuple[str, ...] = Field(
        ("*",),
        description="web origins (CORS), as JSON: `*` may read (GET), a named one may also POST "
        'and DELETE: ["*", "https://a.org"]; [] none',
    )
    tile_max_age: int = Field(300, ge=0, description="Cache-Control max-age of tiles, seconds")

    log_format: Literal["text", "json"] = Field(
        "text", description="text for people, or json: one object per line"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is logged"
    )
    access_log: bool = Field(False, description="log every request")

    def share(self, cores: int) -> Settings:
        """Return one process's share of the settings; `cores` replaces 0 inference threads."""
        count = self.processes
        return self.model_copy(
            update={
                "infer_workers": -(-(self.infer_workers or cores) // count),
                "queue_blocks": -(-self.queue_blocks // count),
                "cache_memory_mb": self.cache_memory_mb // count,
                "rendered_memory_mb": self.rendered_memory_mb // count,
            }
        )


def unknown_settings(names: Iterable[str] = os.environ) -> list[str]:
    """Return a line for each `LANDCOVER_*` of `names` that is not a setting, with a suggestion."""
    known = [f"LANDCOVER_{name.upper()}" for name in Settings.model_fields]
    lines = []
    for name in sorted(names):
        if name.upper().startswith("LANDCOVER_") and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, 1, cutoff=0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            lines.append(f"{name} is not a setting and is ignored{hint}")
    return lines


PAGE_HEAD = """\
# Settings

Set these as environment variables; the common ones are also options of `landcover serve`.
`landcover settings` writes this page: edit the descriptions in `app/settings.py` instead.

{contents}

![A misspelled setting is reported at startup](images/settings.png)"""
# Heading of the page → first setting under it.
PAGE_SECTIONS = {
    "Imagery and model": "imagery",
    "Caches": "cache_dir",
    "Redis": "redis_url",
    "Limits and threads": "block_budget",
    "Jobs": "jobs_dir",
    "Keys": "operator_key",
    "Network": "host",
    "Logs": "log_format",
}


def settings_page() -> str:
    """Return docs/settings.md: every setting with its default and description, as Markdown."""
    headings = {first: heading for heading, first in PAGE_SECTIONS.items()}
    links = (f"- [{heading}](#{heading.lower().replace(' ', '-')})" for heading in PAGE_SECTIONS)
    lines = [PAGE_HEAD.format(contents="\n".join(links))]
    for name, field in Settings.model_fields.items():
        if name in headings:
            table = "| variable | default | description |\n|---|---|---|"
            lines.append(f"\n## {headings[name]}\n\n{table}")
        default = "the shipped model" if name == "model" else field.default
        shown = "–" if default in (None, "", ()) else f"`{default}`"
        lines.append(f"| `LANDCOVER_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"
