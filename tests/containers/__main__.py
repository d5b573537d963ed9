"""`make compose-test`: the compose file built, brought up, hurt and brought down, for real.

`python -m tests.containers --training` builds the training image instead and trains in it.
Tested with podman + runc + podman-compose on a Debian base, not with Docker Engine.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx

from app.demo import write_county
from tests.containers import client, podman
from tests.containers.podman import Failed, run

PROJECT = "landcovertest"
WEB, REDIS, NGINX = (f"{PROJECT}_{name}_1" for name in ("web", "redis", "nginx"))
BACK = f"{PROJECT}_back"
PORT, PROXY_PORT = 18080, 18081
MOST_BYTES = 800e6
READY_S, UP_S = 10.0, 15.0


def compose(*arguments: str) -> str:
    """podman-compose on the repository's file, with the images built here."""
    return run("podman-compose", "-p", PROJECT, "--profile", "proxy", *arguments)


def get(path: str, timeout: float = 60) -> httpx.Response:
    """An answer of the service."""
    return client.get(WEB, 8000, path, timeout)


def through_nginx(path: str) -> httpx.Response:
    """An answer of nginx."""
    return client.get(NGINX, 8080, path)


def until(true: Callable[[], bool], seconds: float, what: str) -> float:
    """Seconds until something is true; Failed when it takes too long."""
    began = time.monotonic()
    while True:
        try:
            if true():
                return time.monotonic() - began
        except (httpx.TransportError, Failed):
            pass
        if time.monotonic() - began > seconds:
            raise Failed(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)


def ready() -> bool:
    """The service answers that it is."""
    return get("/readyz", timeout=2).status_code == 200


def expect(true: object, what: str) -> None:
    """Failed unless true."""
    if not true:
        raise Failed(what)


def tiles(zoom: int) -> list[str]:
    """Tiles around the middle of what is served, nearest first."""
    west, south, east, north = get("/WebMercatorQuad/tilejson.json").json()["bounds"]
    import morecantile

    middle = morecantile.tms.get("WebMercatorQuad").tile(
        (west + east) / 2, (south + north) / 2, zoom
    )
    near = sorted(
        ((dx, dy) for dx in range(-6, 7) for dy in range(-6, 7)), key=lambda d: max(map(abs, d))
    )
    return [f"/tiles/WebMercatorQuad/{zoom}/{middle.x + dx}/{middle.y + dy}.png" for dx, dy in near]


def size() -> None:
    """The server image, OpenVINO included, is at most 800 MB."""
    found = podman.image_bytes(podman.SERVER)
    print(f"  server image {found / 1e6:.0f} MB", flush=True)
    limit = f"the limit is {MOST_BYTES / 1e6:.0f}"
    expect(found <= MOST_BYTES, f"the image has {found / 1e6:.0f} MB, {limit}")


def up() -> None:
    """It comes up and is ready within 15 s, 10 s after the container began."""
    began = time.monotonic()
    compose("up", "-d", "--no-build")
    brought = time.monotonic() - began
    until(ready, UP_S + 60, "ready")
    whole = time.monotonic() - began
    print(f"  up {brought:.1f} s, ready {whole:.1f} s after the command", flush=True)
    expect(whole <= UP_S, f"ready after {whole:.1f} s, the limit is {UP_S:g}")


def restart_time() -> None:
    """Start to ready in at most 10 s."""
    run("podman", "stop", "-t", "12", WEB)
    began = time.monotonic()
    run("podman", "start", WEB)
    until(ready, 60, "ready")
    took = time.monotonic() - began
    print(f"  start to ready {took:.1f} s", flush=True)
    expect(took <= READY_S, f"{took:.1f} s, the limit is {READY_S:g}")


def published() -> None:
    """The port on the host's loopback, unless the host lets nothing pass to containers."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{PORT}/readyz", timeout=10)
    except httpx.TransportError as error:
        raise Failed(f"the published port: {error}") from error
    if "x-request-id" not in answer.headers:
        print(f"  SKIPPED: not the service answers there but: {answer.text[:80]!r}", flush=True)


def hardened() -> None:
    """Inside: uid 10001, no capability, no new privileges, seccomp, a root that refuses writes."""
    status = run("podman", "exec", WEB, "cat", "/proc/1/status")
    facts = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    expect(facts["Uid"].split() == ["10001"] * 4, f"Uid {facts['Uid']}")
    for name in ("CapEff", "CapPrm", "CapBnd"):
        expect(int(facts[name], 16) == 0, f"{name} {facts[name]}")
    expect(facts["NoNewPrivs"].strip() == "1", "NoNewPrivs")
    expect(facts["Seccomp"].strip() == "2", "Seccomp")
    for path, wanted in (("/x", False), ("/opt/x", False), ("/tmp/x", True)):  # noqa: S108
        try:
            run("podman", "exec", WEB, "sh", "-c", f"echo > {path}")
            written = True
        except Failed:
            written = False
        expect(written == wanted, f"{path} writable: {written}")
    look = "ls -d /opt/landcover/lib/*/site-packages/torch*"
    torch = run("podman", "exec", WEB, "sh", "-c", look, check=False)
    expect(not torch.strip(), "torch is in the image")


def engines() -> None:
    """Both engines compute inside: the image leaves out what they are not thought to need."""
    for name in ("onnxruntime", "openvino"):
        text = run("podman", "exec", "-e", f"LANDCOVER_ENGINE={name}", WEB, "landcover", "doctor")
        expect(f"engine  {name}:" in text, f"doctor with {name}: {text[:200]!r}")


def healthy() -> None:
    """The container's own health check says healthy."""
    run("podman", "healthcheck", "run", WEB)


def tile() -> None:
    """A tile of Demo County, the map, the figures."""
    answer = get(tiles(17)[0])
    expect(answer.status_code == 200, f"tile: {answer.status_code} {answer.text[:200]}")
    expect(answer.content[:4] == b"\x89PNG" and len(answer.content) > 500, "no tile of classes")
    expect(get("/map").status_code == 200, "map")
    text = get("/metrics").text
    expect("landcover_blocks_inferred_total" in text, "metrics")
    expect('landcover_leases_total{outcome="claimed"}' in text, "Redis was not used")


def square(side: float) -> dict[str, object]:
    """A square of so many degrees from the middle of what is served."""
    west, south, east, north = get("/WebMercatorQuad/tilejson.json").json()["bounds"]
    x, y = (west + east) / 2, (south + north) / 2
    ring = [[x + dx * side, y + dy * side] for dx, dy in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))]
    return {"type": "Polygon", "coordinates": [ring]}


def begun(area: dict[str, object]) -> str:
    """The path of a job that was begun."""
    path = "/processes/classify-area/execution"
    answer = client.post(WEB, 8000, path, {"inputs": {"area": area}}, prefer="respond-async")
    expect(answer.status_code == 201, f"{answer.status_code} {answer.text[:300]}")
    where = answer.headers["location"]
    return str(where[where.index("/jobs/") :])


def job() -> None:
    """A job, with the figures of the request that answers at once."""
    area = square(0.001)
    path = begun(area)
    until(lambda: get(path).json()["status"] == "successful", 120, "job successful")
    found = get(f"{path}/results").json()
    sync = client.post(WEB, 8000, "/statistics", area).json()
    expect(found["statistics"] == sync["properties"]["statistics"], "a job's own figures")
    expect("landcover_jobs" in get("/metrics").text, "jobs in /metrics")


def trouble(
    begin: Callable[[], object], end: Callable[[], object], *, lasts: bool = True
) -> Callable[[], None]:
    """Redis in trouble: tiles come, and it is used again within 5 s. `lasts`: no restart policy
    ends it."""

    def step() -> None:
        begin()
        try:
            for path in fresh(3):
                answer = get(path)
                expect(answer.status_code == 200, f"{answer.status_code} {answer.text[:200]}")
            expect(
                not lasts or get("/readyz").json()["redis"] != "ok",
                "/readyz says nothing of the trouble",
            )
        finally:
            end()
        took = until(lambda: get("/readyz").json()["redis"] == "ok", 30, "Redis in use again")
        print(f"  in use again {took:.1f} s after the trouble", flush=True)
        expect(took <= 5, f"{took:.1f} s, the limit is 5")

    return step


_fresh: list[str] = []


def fresh(count: int) -> list[str]:
    """Tiles that nobody has requested yet, in different blocks."""
    if not _fresh:
        _fresh.extend(tiles(17)[8::3])
    return [_fresh.pop() for _ in range(count)]


def killed() -> None:
    """kill -9 of the web process: it is there again, and what was cached is."""
    (path,) = fresh(1)
    before = get(path).content
    pid = client.state_of(WEB)["Pid"]
    os.kill(pid, 9)
    took = until(ready, 60, "ready after kill -9")
    print(f"  ready again {took:.1f} s after kill -9", flush=True)
    expect(get(path).content == before, "another tile than before")
    blocks = get("/metrics").text
    expect("landcover_blocks_inferred_total 0.0" in blocks, "cached blocks were computed anew")


def out_of_memory() -> None:
    """The kernel ends the web process for want of memory while a job runs: the service is there
    again, and the job goes on."""
    path = begun(square(0.01))
    until(lambda: get(path).json()["status"] == "running", 30, "job running")
    requested = iter(tiles(19))
    pid = client.state_of(WEB)["Pid"]
    podman.leave_memory(pid, 4_000_000)  # until the container starts anew
    until(lambda: _gone(pid, next(requested)), 60, "ended for want of memory")
    took = until(ready, 60, "ready after it")
    (podman.ROOT / "oom").unlink(missing_ok=True)  # conmon's mark, left where podman was started
    print(f"  ready again {took:.1f} s after the kernel ended it", flush=True)
    expect(took <= 5, f"{took:.1f} s, the limit is 5")
    until(lambda: get(path).json()["status"] == "successful", 180, "the job goes on")


def _gone(pid: int, path: str) -> bool:
    with contextlib.suppress(httpx.TransportError, Failed):
        get(path, timeout=5)
    return client.state_of(WEB)["Pid"] != pid


def proxy() -> None:
    """nginx: 64 clients of one tile are one request to the service; a second one is a hit."""
    (path,) = fresh(1)
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: through_nginx(path), range(64)))
    expect({a.status_code for a in answers} == {200}, "statuses")
    misses = sum(a.headers["x-cache"] == "MISS" for a in answers)
    expect(misses == 1, f"{misses} misses")
    expect(through_nginx("/metrics").status_code == 404, "/metrics is public")
    run("podman", "stop", "-t", "12", WEB)
    try:
        answer = through_nginx(path)
        expect(answer.status_code == 200, f"service away: {answer.status_code}")
    finally:
        run("podman", "start", WEB)
        until(ready, 60, "ready")


def stopped() -> None:
    """A graceful stop with tiles in work: every one is answered, within 15 s."""
    paths = fresh(3)
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(get, path) for path in paths]
        until(lambda: get("/readyz").json()["blocks_in_work"] > 0, 20, "blocks in work")
        time.sleep(0.5)
        began = time.monotonic()
        run("podman", "stop", "-t", "15", WEB)
        took = time.monotonic() - began
        statuses = [answer.result().status_code for answer in answers]
    code = client.state_of(WEB)["ExitCode"]
    print(f"  stopped in {took:.1f} s, exit code {code}", flush=True)
    expect(statuses == [200] * 3, f"statuses {statuses}")
    expect(code in (0, 143), f"exit code {code}")


def training() -> int:
    """The training image: a few steps on Demo County and their export, as its user would."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_county(folder / "county")
        (folder / "runs").mkdir()
        folder.chmod(0o755)
        (folder / "runs").chmod(0o777)  # the container's user is none of ours
        podman.build_training()
        mounts = [f"{folder}/county:/data:ro", f"{folder}/runs:/work/runs"]
        export = ["export", "--run", "runs/a", "--out", "runs/a/model.onnx"]
        command = [
            "podman", "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL",
            *(option for mount in mounts for option in ("-v", mount)), podman.TRAINING,
        ]  # fmt: skip
        fit = ["fit", "--preset", "made", "--county", "/data", "--steps", "70", "--run", "runs/a"]
        print(run(*command, *fit), flush=True)
        print(run(*command, *export), flush=True)
        found = podman.image_bytes(podman.TRAINING)
        expect((folder / "runs" / "a" / "model.onnx").stat().st_size > 7e6, "no model")
    print(f"training image: trained and exported; {found / 1e6:.0f} MB", flush=True)
    return 0


STEPS: list[tuple[str, Callable[[], None]]] = [
    ("image size", size),
    ("up", up),
    ("published port", published),
    ("hardening", hardened),
    ("both engines", engines),
    ("health check", healthy),
    ("tile", tile),
    ("job", job),
    ("redis killed", trouble(lambda: run("podman", "kill", REDIS),
                             lambda: run("podman", "start", REDIS, check=False), lasts=False)),
    ("redis hung", trouble(lambda: run("podman", "pause", REDIS),
                           lambda: run("podman", "unpause", REDIS))),
    ("redis cut off", trouble(lambda: run("podman", "network", "disconnect", BACK, REDIS),
                              lambda: run("podman", "network", "connect", BACK, REDIS,
                                          "--alias", "redis"))),
    ("kill -9 of web", killed),
    ("out of memory", out_of_memory),
    ("nginx", proxy),
    ("start to ready", restart_time),
    ("graceful stop", stopped),
]  # fmt: skip


def main() -> int:
    """0 when every step passes, or when containers cannot run here, which is said loudly."""
    why = podman.missing()
    if why is not None:
        print(f"\n*** compose-test NOT RUN: {why} ***\n", flush=True)
        return 0
    if "--training" in sys.argv[1:]:
        return training()
    os.environ |= {
        "LANDCOVER_PUBLISH": str(PORT), "NGINX_PUBLISH": str(PROXY_PORT),
        "REDIS_IMAGE": podman.REDIS, "NGINX_IMAGE": podman.NGINX,
        "LANDCOVER_SERVER_IMAGE": podman.SERVER,
    }  # fmt: skip
    began = time.monotonic()
    if "--built" not in sys.argv[1:]:  # else with the images of the last run
        podman.build_all()
    print(f"built in {time.monotonic() - began:.0f} s", flush=True)
    passed = failed = 0
    try:
        for name, step in STEPS:
            print(name, flush=True)
            try:
                step()
            except (Failed, httpx.HTTPError, ValueError, KeyError) as error:
                failed += 1
                print(f"  FAILED: {error}", flush=True)
                run("sh", "-c", f"podman logs --tail 20 {WEB} >&2", check=False)
            else:
                passed += 1
    finally:
        compose("down", "-v", "-t", "3")
    print(f"compose-test: {passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
