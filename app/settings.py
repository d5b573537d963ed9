"""Everything an operator can set, as LANDCOVER_<NAME> in the environment or a CLI option.

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

SHIPPED_MODEL = Path(__file__).parent.parent / "model" / "weights" / "landcover.onnx"


class Settings(BaseSettings):
    """Operator settings; each value is checked at start."""

    model_config = SettingsConfigDict(env_prefix="LANDCOVER_", extra="forbid", frozen=True)

    imagery: Path | None = Field(
        None, description="directory or glob of NAIP GeoTIFFs to serve: one source, the first"
    )
    sources: Path | None = Field(
        None, description="sources.toml: named sources of every kind (docs/sources.md)"
    )
    title: str = Field("", description="title of that source; its directory's name by default")
    refresh_s: float = Field(
        60, ge=0, description="seconds between looks for new and changed files; 0: never"
    )
    attribution: str = Field("Imagery: USDA NAIP (public domain)", description="shown on every map")
    model: Path = Field(SHIPPED_MODEL, description="the .onnx model file")

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
        None, description="directory of the disk cache of classified blocks; none: memory only"
    )
    cache_disk_mb: int = Field(4096, ge=1, description="most the disk cache may hold, MB")
    cache_memory_mb: int = Field(192, ge=0, description="classified blocks kept in memory, MB")
    rendered_memory_mb: int = Field(32, ge=0, description="rendered tiles kept in memory, MB")

    redis_url: SecretStr | None = Field(
        None,
        description="Redis shared by processes and replicas, redis://[user:password@]host:port/db; "
        "none: the processes of one machine share by the cache directory alone",
    )
    redis_timeout_s: float = Field(
        0.2, gt=0, le=5, description="longest a call of Redis may take before it counts as hung, s"
    )
    redis_lease_s: float = Field(
        3, ge=0.5, le=60, description="after which a block in work elsewhere is taken over, seconds"
    )
    redis_keep_s: int = Field(
        604_800, ge=60, description="for which a block is kept in Redis, seconds"
    )

    block_budget: int = Field(
        16, ge=0, le=1024, description="blocks one tile request may infer below native zoom"
    )
    area_blocks: int = Field(
        64, ge=1, description="blocks an area may need in one request; more: 413, a job instead"
    )
    area_vertices: int = Field(
        1000, ge=4, description="vertices the polygons of one request may have"
    )
    body_kb: int = Field(1024, ge=1, description="most a request may send, kB")
    queue_blocks: int = Field(
        128, ge=1, description="blocks in work at once; more are answered 503 with Retry-After"
    )
    deadline_s: float = Field(60, gt=0, description="longest a request may take, seconds")
    processes: int = Field(
        1, ge=1, le=64, description="web processes; inference threads, queue and memory are divided"
    )
    infer_workers: int = Field(
        0, ge=0, description="inference threads, one block each; 0: every available core"
    )
    read_workers: int = Field(4, ge=1, le=64, description="threads that read imagery")
    gdal_cache_mb: int = Field(64, ge=16, description="GDAL's block cache, MB")

    jobs_dir: Path | None = Field(
        None, description="directory of jobs and their results; none: gone when the server ends"
    )
    job_area_km2: float = Field(5000, gt=0, description="largest area of a job, km²")
    sync_area_km2: float = Field(
        25, gt=0, description="largest area of a process executed while the client waits, km²"
    )
    jobs_queued: int = Field(32, ge=1, description="jobs that may wait; more are answered 503")
    job_keep_h: float = Field(72, gt=0, description="hours the results of a job are kept")
    scheduler: str = Field(
        "", description="Dask scheduler that computes jobs, tcp://host:port; none: this process"
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    root_path: str = Field("", description="path the service is published under by a proxy")
    cors_origins: tuple[str, ...] = Field(
        (), description='origins that may read tiles from a browser, as JSON: ["https://a.org"]'
    )
    tile_max_age: int = Field(
        300, ge=0, description="seconds a browser may show a tile without asking, Cache-Control"
    )

    log_format: Literal["text", "json"] = Field(
        "text", description="lines for people (text) or one JSON object a line (json)"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe lines that are logged"
    )
    access_log: bool = Field(False, description="log every request")

    def share(self, cores: int) -> Settings:
        """One process's part of what is set for the whole service. `cores`: threads for 0."""
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
    """A line for every `LANDCOVER_*` among `names` that is no setting, with the nearest that is."""
    known = [f"LANDCOVER_{name.upper()}" for name in Settings.model_fields]
    lines = []
    for name in sorted(names):
        if name.upper().startswith("LANDCOVER_") and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, 1, cutoff=0.8)
            hint = f"; did you mean {near[0]}?" if near else ""
            lines.append(f"{name} is no setting and does nothing{hint}")
    return lines


def settings_page() -> str:
    """Every setting with its unit and default, as Markdown: docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Environment variables; the common ones are options of `landcover serve` too.",
        "Written by `landcover settings`; do not edit.",
        "",
        "| variable | default | what |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "the shipped model" if name == "model" else field.default
        shown = "–" if default in (None, "", ()) else f"`{default}`"
        lines.append(f"| `LANDCOVER_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"
