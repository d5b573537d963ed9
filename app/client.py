"""A small client of a running server. Needs httpx2 and nothing else of this package.

with Client("http://localhost:8000") as client:
    job = client.submit("classify-area", area)
    client.wait(job)
    client.download(job, "classes.tif")
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2 as httpx

GeoJson = dict[str, Any]


class ServerError(Exception):
    """The server refused; `status` is HTTP's, `problem` the RFC 9457 document."""

    def __init__(self, answer: httpx.Response) -> None:
        try:
            document = answer.json()
        except ValueError:
            document = {}
        self.status = answer.status_code
        self.problem: dict[str, Any] = document if isinstance(document, dict) else {}
        super().__init__(self.problem.get("detail") or f"HTTP {answer.status_code}")


class JobFailed(Exception):
    """A job ended without results; the message is the server's."""


class Client:
    """Requests to one server. ServerError when it refuses one, httpx2.TransportError when it cannot
    be reached."""

    def __init__(self, server: str, timeout_s: float = 120, key: str | None = None) -> None:
        """`key`: one that the server's operator has given out; none is needed for the rest."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=server.rstrip("/"), timeout=timeout_s, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def point(self, lon: float, lat: float, **query: str) -> dict[str, Any]:
        """Return class, confidence and scene at a point (degrees); `query`: source, year, model."""
        return self._json("GET", f"/point/{lon},{lat}", params=query)

    def estimate(self, process: str, area: GeoJson, **inputs: str) -> dict[str, Any]:
        """Return the blocks, seconds and bytes of a job, without running it."""
        body = {"inputs": {"area": area, **inputs}}
        return self._json("POST", f"/processes/{process}/estimate", json=body)

    def statistics(self, area: GeoJson, **inputs: str) -> dict[str, Any]:
        """Return the ground area of every class; of areas of any size, as it runs a job."""
        job = self.submit("classify-area", area, outputs=("statistics",), **inputs)
        self.wait(job)
        document: dict[str, Any] = self.results(job)["statistics"]
        return document

    def submit(
        self, process: str, area: GeoJson, outputs: tuple[str, ...] = (), **inputs: str
    ) -> str:
        """Start a job and return its id. `inputs`: source, model, and year, or datetime and fill;
        for `change` from and to."""
        body: dict[str, Any] = {"inputs": {"area": area, **inputs}}
        if outputs:
            body["outputs"] = {name: {} for name in outputs}
        headers = {"prefer": "respond-async"}
        path = f"/processes/{process}/execution"
        return str(self._json("POST", path, json=body, headers=headers)["jobID"])

    def status(self, job: str) -> dict[str, Any]:
        """Return the job's statusInfo (OGC API Processes 1.0), with `blocks` and `eta_s`."""
        return self._json("GET", f"/jobs/{job}")

    def wait(
        self,
        job: str,
        progress: Callable[[dict[str, Any]], None] = lambda info: None,
        every_s: float = 0.5,
    ) -> dict[str, Any]:
        """Wait for a job and return its statusInfo; `progress` is called with each one. JobFailed
        when it failed or was dismissed."""
        while True:
            info = self.status(job)
            progress(info)
            if info["status"] == "successful":
                return info
            if info["status"] not in ("accepted", "running"):
                raise JobFailed(f"job {job} {info['status']}: {info.get('message', '')}")
            time.sleep(every_s)

    def results(self, job: str) -> dict[str, Any]:
        """Return the results document: values, and {"href", "type"} for files."""
        return self._json("GET", f"/jobs/{job}/results")

    def download(self, job: str, path: str | Path, output: str = "cog") -> Path:
        """Write one file of the results, whole or not at all, and return its path."""
        target = Path(path)
        part = target.with_name(f"{target.name}.part")
        with self._http.stream("GET", self.results(job)[output]["href"]) as answer:
            if answer.status_code != 200:
                answer.read()
                raise ServerError(answer)
            with part.open("wb") as file:
                for chunk in answer.iter_bytes():
                    file.write(chunk)
        part.replace(target)
        return target

    def dismiss(self, job: str) -> None:
        """Stop a job, or remove its results."""
        self._json("DELETE", f"/jobs/{job}")

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        answer = self._http.request(method, path, **options)
        if answer.status_code >= 400:
            raise ServerError(answer)
        document: dict[str, Any] = answer.json()
        return document
