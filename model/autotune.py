"""Which engine runs the network on this machine: measured once on real imagery, and remembered.

An engine is taken when it is faster than ONNX Runtime in fp32 and gives nearly every pixel of the
probe the same class. Where that is not so (some processors get 8-bit files badly wrong), it is not.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import threading
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.card import ModelCard
from model.engines import DEFAULT, Engine, EngineSpec, OnnxRuntimeEngine, create, offered, versions
from model.errors import ArtifactError, EngineError
from model.legend import LEGEND
from model.normalize import normalize
from model.session import CARD_KEY, Session

MIN_AGREEMENT = 0.995
"""Share of the probe's pixels that must get the class they get in fp32."""

MAX_LOSS = 0.003
"""Overall accuracy on the probe's labels that may be lost."""

MIN_GAIN = 0.05
"""Share of the time that must be saved: below it the choice would be chance."""

BUDGET_S = 3.0
"""After this many seconds a start begins to measure no other engine."""

LONGEST_S = 6.0
"""Longest that a start waits for the first measurement, seconds."""

PROBE = Path(__file__).parent / "probe" / "naip.npz"
INT8_SUFFIX = ".int8.onnx"
WINDOW = 144
"""Edge of a window of the probe, pixels."""

TIMED = 288
"""Edge of the window that is timed, pixels."""

EDGE = 16
"""Pixels at the edges of the probe's windows that are not compared: they see, as no pixel that is
served does, another place beside them."""

PAIRS = 3
"""How often it is timed, as far as there is time."""

log = logging.getLogger("landcover.engine")


@dataclass(frozen=True, slots=True)
class Measurement:
    """An engine against ONNX Runtime in fp32: `ratio` of their times, `agreement` of their classes
    (share of pixels), `loss` of overall accuracy (0..1)."""

    ratio: float
    agreement: float
    loss: float

    def __str__(self) -> str:
        return (
            f"{self.ratio:.2f} of the time of {DEFAULT}, "
            f"{100 * self.agreement:.2f} % of the classes the same"
        )

    @property
    def agrees(self) -> bool:
        """Whether its classes may be served."""
        return self.agreement >= MIN_AGREEMENT and self.loss <= MAX_LOSS


def open_session(
    path: Path,
    engine: str = "auto",
    threads: int = 1,
    streams: int = 1,
    notes: Path | None = None,
) -> Session:
    """Load the model file `path` to be run by `engine`, such as `openvino:bf16`.

    `auto`: the fastest whose classes agree; whatever fails, ONNX Runtime in fp32. `streams`: how
    many runs there are at once. `notes`: a directory in which what was measured is remembered.
    EngineError when the engine named is not there or its classes do not agree; ArtifactError or
    CardError as `Session.load`.
    """
    session = Session.load(path, threads)
    tuner = Tuner(path, session, threads, streams, notes)
    if engine != "auto":
        return tuner.explicit(EngineSpec.parse(engine))
    try:
        return tuner.fastest()
    except Exception as error:  # foreign code, and no start needs it
        log.warning("engine: %s, as choosing another failed: %s", DEFAULT, error)
        return session


def user_notes() -> Path | None:
    """Return the user's cache directory, for services that have none of their own."""
    try:
        home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
        return Path(home or Path.home() / ".cache") / "landcover"
    except RuntimeError:
        return None


class Tuner:
    """Measures the engines that this machine offers for one model file."""

    def __init__(
        self, path: Path, session: Session, threads: int, streams: int, notes: Path | None
    ) -> None:
        """`session`: the model in ONNX Runtime, fp32."""
        self._path = path
        self._session = session
        self._threads, self._streams = threads, streams
        self._int8_path = path.with_suffix(INT8_SUFFIX)
        self._notes = notes / f"engines-{self._digest()}.json" if notes else None
        self._selected: str | None = None
        self._writing = threading.Lock()

    def explicit(self, spec: EngineSpec) -> Session:
        """Return the model run by `spec`; EngineError when it is not there or does not agree."""
        if spec == DEFAULT:
            return self._session
        selected = self._session.with_engine(self._create(spec))
        known = self._remembered()
        if str(spec) not in known:
            if self._probe is None:
                log.warning("engine: %s, unchecked: the probe is not for this model", spec)
                return selected
            known[str(spec)] = self._measure(selected)
            self._remember(known)
        result = known[str(spec)]
        if not result.agrees:
            raise EngineError(
                f"{spec} gives {100 * result.agreement:.2f} % of the probe's pixels the class they "
                f"have in fp32 (limit {100 * MIN_AGREEMENT:g} %) and loses "
                f"{100 * result.loss:.2f} points of accuracy (limit {100 * MAX_LOSS:g})"
            )
        return selected

    def fastest(self) -> Session:
        """Return the model run by the fastest engine that agrees.

        Chosen once: a later start takes the same, so that a pixel keeps its class.
        """
        candidates = offered(self._int8_path.exists())
        if not candidates or self._probe is None:
            return self._session
        known = self._remembered()
        best = next((spec for spec in (DEFAULT, *candidates) if str(spec) == self._selected), None)
        if best is None:
            # What it is at when the time is up is finished beside the service that starts.
            missing = [spec for spec in candidates if str(spec) not in known]
            measuring = threading.Thread(target=self._measure_all, args=(missing, known))
            measuring.start()
            measuring.join(BUDGET_S)
            if not known:
                measuring.join(max(LONGEST_S - BUDGET_S, 0))
            known = dict(known)
            best = self._best(candidates, known)
            if known:
                self._remember(known, best)
        if best == DEFAULT:
            log.info("engine: %s; no other is faster here", DEFAULT)
            return self._session
        selected = self._session.with_engine(self._create(best))
        log.info("engine: %s, %s", best, known.get(str(best), "chosen by an earlier start"))
        return selected

    def _best(self, candidates: list[EngineSpec], known: dict[str, Measurement]) -> EngineSpec:
        ratios = {
            spec: known[str(spec)].ratio
            for spec in candidates
            if str(spec) in known and known[str(spec)].agrees
        }
        best = min(ratios, key=lambda spec: ratios[spec], default=DEFAULT)
        return best if ratios.get(best, 1.0) <= 1 - MIN_GAIN else DEFAULT

    def _measure_all(self, specs: list[EngineSpec], known: dict[str, Measurement]) -> None:
        """Add to `known` as many of `specs` as there is time for; one that fails is left out."""
        began = time.monotonic()
        self._time(self._session)
        # The probe twice, of two timed windows each, and a pair; compiling is in none of them.
        each = 8 * self._time(self._session)
        for number, spec in enumerate(specs):
            if time.monotonic() - began + each > BUDGET_S:
                left = ", ".join(map(str, specs[number:]))
                log.info("engine: no time to measure %s", left)
                break
            started = time.monotonic()
            try:
                session = self._session.with_engine(self._create(spec))
                known[str(spec)] = self._measure(session, began + BUDGET_S)
                self._remember(known)
            except Exception as error:  # foreign code
                log.warning("engine: %s does not work here: %s", spec, error)
            each = time.monotonic() - started

    def _measure(self, session: Session, deadline: float = math.inf) -> Measurement:
        """Times in adjacent pairs: what else runs on these cores slows both."""
        reference, classes = self._reference, _classes(session, self._require_probe()[0])
        self._time(session)  # the first run of a size prepares for it
        pairs = [(self._time(self._session), self._time(session))]
        while len(pairs) < PAIRS and time.monotonic() + 2 * sum(pairs[0]) < deadline:
            pairs.append((self._time(self._session), self._time(session)))
        ratio = min(there for _, there in pairs) / min(here for here, _ in pairs)
        return Measurement(
            round(ratio, 4),
            float((classes == reference)[_inner(classes.shape)].mean()),
            self._accuracy(reference) - self._accuracy(classes),
        )

    def _time(self, session: Session) -> float:
        batch = np.ascontiguousarray(self._require_probe()[0][..., :TIMED, :TIMED])
        began = time.perf_counter()
        session.predict(batch)
        return time.perf_counter() - began

    def _accuracy(self, classes: npt.NDArray[np.intp]) -> float:
        """Share of the probe's labeled pixels; 0 for a model with other classes."""
        labels = self._require_probe()[1]
        if self._session.card.legend.values != LEGEND.values:
            return 0.0
        known = (labels > 0) & _inner(labels.shape)
        return float((classes[known] == labels[known]).mean())

    @cached_property
    def _reference(self) -> npt.NDArray[np.intp]:
        return _classes(self._session, self._require_probe()[0])

    @cached_property
    def _probe(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]] | None:
        """(normalized float32 (1, 4, 288, 576), labels uint8 (288, 576), 0 = unlabeled): eight real
        windows side by side; None for a model of other bands."""
        if self._session.card.bands != ModelCard.model_fields["bands"].default:
            return None
        with np.load(PROBE) as kept:
            images, labels = kept["images"], kept["labels"]
        return normalize(_side_by_side(images), self._session.card)[None], _side_by_side(labels)

    def _require_probe(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        if self._probe is None:
            raise EngineError("the probe is not for this model")
        return self._probe

    def _create(self, spec: EngineSpec) -> Engine:
        content = self._path.read_bytes()
        if hashlib.sha256(content).hexdigest() != self._session.sha256:
            raise ArtifactError("the model file changed while it was loaded")
        int8 = self._int8_content() if spec.precision == "int8" else None
        return create(spec, content, int8, self._threads, self._streams)

    def _int8_content(self) -> bytes | None:
        """The 8-bit file beside the model; ArtifactError when it is of another model."""
        if not self._int8_path.exists():
            return None
        content = self._int8_path.read_bytes()
        text = OnnxRuntimeEngine(content).metadata.get(CARD_KEY, "")
        card = ModelCard.parse(text, self._int8_path.name)
        same = {"description": "", "sha256": None}
        if card.model_copy(update=same) != self._session.card.model_copy(update=same):
            raise ArtifactError(
                f"{self._int8_path.name} is of another model than {self._path.name}"
            )
        return content

    def _digest(self) -> str:
        """Of all that the figures depend on."""
        int8 = self._int8_path.read_bytes() if self._int8_path.exists() else b""
        parts = [
            _processor(),
            self._session.sha256,
            hashlib.sha256(int8).hexdigest(),
            hashlib.sha256(PROBE.read_bytes()).hexdigest(),
            str(self._threads),
            *(f"{name} {version}" for name, version in sorted(versions().items())),
        ]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=12).hexdigest()

    def _remembered(self) -> dict[str, Measurement]:
        """What was measured before; sets what was chosen."""
        if self._notes is None:
            return {}
        try:
            kept = json.loads(self._notes.read_text())
            known = {name: Measurement(**each) for name, each in kept["measured"].items()}
            self._selected = kept["engine"]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            log.warning("engine: %s cannot be used: %s", self._notes, error)
            return {}
        return known

    def _remember(self, known: dict[str, Measurement], selected: EngineSpec | None = None) -> None:
        with self._writing:
            if selected is not None:
                self._selected = str(selected)
            if self._notes is None or not known:
                return
            measured = {name: asdict(each) for name, each in known.items()}
            temporary = self._notes.with_suffix(f".{os.getpid()}.part")
            try:
                self._notes.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_text(json.dumps({"engine": self._selected, "measured": measured}))
                temporary.replace(self._notes)
            except OSError as error:
                log.warning("engine: what was measured is not kept: %s", error)


def _side_by_side(windows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(8, …, 144, 144) → (…, 288, 576): two rows of four windows."""
    rows = [np.concatenate(list(half), axis=-1) for half in np.split(windows, 2)]
    return np.concatenate(rows, axis=-2)


def _inner(shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """bool (rows, cols): what is not at the edge of one of the probe's windows."""
    rows, cols = (np.arange(size) % WINDOW for size in shape)
    inner = [(line >= EDGE) & (line < WINDOW - EDGE) for line in (rows, cols)]
    return inner[0][:, None] & inner[1][None, :]


def _classes(session: Session, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    classes: npt.NDArray[np.intp] = session.predict(batch)[0].argmax(axis=0)
    return classes


def _processor() -> str:
    """The processor's name and what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))
