"""podman where there is no registry: a base image made by debootstrap, images built upon it.

Certificates and the package index's settings of the machine are mounted while building; they are
part of no image. Everything is kept in a folder outside the repository (LANDCOVER_CI_CACHE).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("LANDCOVER_CI_CACHE", Path.home() / ".cache" / "landcover-ci"))
BASE = "localhost/landcover-test-base:bookworm"
SERVER = "localhost/landcover-server:test"
TRAINING = "localhost/landcover-training:test"
REDIS = "localhost/landcover-test-redis:latest"
NGINX = "localhost/landcover-test-nginx:latest"
NEEDED = ("podman", "runc", "debootstrap", "iptables", "podman-compose")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class Failed(Exception):
    """A command that should have worked did not."""


def missing() -> str | None:
    """Why containers cannot run here, or None."""
    if os.name != "posix" or os.geteuid() != 0:
        return "not root"
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    _configure()
    probe = subprocess.run(["podman", "info"], capture_output=True, text=True, check=False)
    return None if probe.returncode == 0 else f"podman info: {probe.stderr.strip()[-300:]}"


def run(*command: str, timeout: float = 600, cwd: Path = ROOT, check: bool = True) -> str:
    """A command's output; Failed with its end when it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, cwd=cwd, check=False
    )
    if check and done.returncode != 0:
        raise Failed(
            f"{' '.join(command)}: {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}"
        )
    return done.stdout


def build_all() -> None:
    """The base, unless there is one, and the three images."""
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode != 0:
        _make_base()
    here = Path(__file__).parent
    _build(ROOT, ROOT / "docker" / "server.Dockerfile", SERVER, f"PYTHON_IMAGE={BASE}")
    for name, image in (("redis", REDIS), ("nginx", NGINX)):
        _build(here, here / f"{name}.Dockerfile", image, f"BASE={BASE}")


def build_training() -> None:
    """The training image; torch from PIP_FIND_LINKS where that names a folder of wheels."""
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode != 0:
        _make_base()
    wheels = os.environ.get("PIP_FIND_LINKS", "")
    more = [f"{wheels}:{wheels}:ro"] if wheels and Path(wheels).is_dir() else []
    if more:
        (CACHE / "pip.conf").write_text(f"[global]\ncert = {CERTIFICATES}\nfind-links = {wheels}\n")
    file = ROOT / "docker" / "training.Dockerfile"
    _build(ROOT, file, TRAINING, f"PYTHON_IMAGE={BASE}", more)


def image_bytes(image: str) -> int:
    """Size of an image with all its layers."""
    return int(run("podman", "image", "inspect", "--format", "{{.Size}}", image))


def leave_memory(pid: int, more: int) -> None:
    """Lowers the limit of a container, by a process of it, to what it uses now and `more` bytes."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            group = Path("/sys/fs/cgroup/memory") / path.lstrip("/")
            used, limit = group / "memory.usage_in_bytes", group / "memory.limit_in_bytes"
            break
        if not controllers:  # version 2
            group = Path("/sys/fs/cgroup") / path.lstrip("/")
            used, limit = group / "memory.current", group / "memory.max"
            if limit.exists():
                break
    else:
        raise Failed(f"process {pid} has no memory limit")
    limit.write_text(str(int(used.read_text()) + more))


def _configure() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    storage, containers = CACHE / "storage.conf", CACHE / "containers.conf"
    storage.write_text(
        f'[storage]\ndriver = "overlay"\nrunroot = "{CACHE}/run"\ngraphroot = "{CACHE}/graph"\n'
    )
    # runc: crun refuses hybrid cgroups. The limits: a container's root may not raise them.
    containers.write_text(
        '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    (CACHE / "pip.conf").write_text(f"[global]\ncert = {CERTIFICATES}\n")
    os.environ["CONTAINERS_STORAGE_CONF"] = str(storage)
    os.environ["CONTAINERS_CONF"] = str(containers)


def _make_base() -> None:
    rootfs, archive = CACHE / "rootfs", CACHE / "rootfs.tar"
    if not archive.exists():
        shutil.rmtree(rootfs, ignore_errors=True)
        packages = "python3,python3-venv,python3-pip,ca-certificates"
        run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(rootfs))
        left_out = (
            "proc/*", "sys/*", "var/cache/apt/*", "var/lib/apt/lists/*",
            "usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "usr/share/info/*",
        )  # fmt: skip
        options = [f"--exclude=./{pattern}" for pattern in left_out]
        part = archive.with_suffix(".part")
        run("tar", "-C", str(rootfs), *options, "-cf", str(part), ".")
        part.rename(archive)
        shutil.rmtree(rootfs)
    path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    run("podman", "import", "--change", path, str(archive), BASE)


def _build(context: Path, file: Path, image: str, argument: str, more: Sequence[str] = ()) -> None:
    own = [f"{CERTIFICATES}:{CERTIFICATES}:ro", f"{CACHE / 'pip.conf'}:/etc/pip.conf:ro"]
    mounts = [*own, *more]
    run(
        "podman", "build", "--format", "docker", "--network", "host",
        *(option for mount in mounts for option in ("-v", mount)),
        "--build-arg", argument, "-f", str(file), "-t", image, ".",
        timeout=1500, cwd=context,
    )  # fmt: skip
