"""One model file, checked against its card and run by ONNX Runtime.

The file is read once; what was hashed is what runs. A file is refused, with the reason, when
its digest, metadata, inputs or outputs are not what its card says, or when its weights lie in
other files.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from model.card import METADATA_PREFIX, ModelCard
from model.errors import ArtifactError, Cancelled, CardError, ImageError
from model.windows import MULTIPLE

CARD_KEY = f"{METADATA_PREFIX}card"

Probabilities = npt.NDArray[np.float32]


class Cancellation:
    """Stops a run from another thread, within one operator."""

    def __init__(self) -> None:
        self.options = ort.RunOptions()
        self.cancelled = False

    def cancel(self) -> None:
        """Stop the runs that hold this object, now and later."""
        self.cancelled = True
        self.options.terminate = True


class Session:
    """A loaded model. Safe to call from several threads at once."""

    def __init__(self, content: bytes, card: ModelCard | None = None, threads: int = 1) -> None:
        """Check `content` (an ONNX file) against `card`; ArtifactError when they disagree.

        Without `card` the one inside the file is used. `threads`: ONNX Runtime's intra-op threads.
        """
        self._run = _load(content, threads)
        self.card = card or self.embedded_card()
        self.sha256 = hashlib.sha256(content).hexdigest()
        if self.card.sha256 not in (None, self.sha256):
            raise ArtifactError(
                f"sha256 of the model file is {self.sha256}, its card says {self.card.sha256}"
            )
        self._check_graph()
        self._input = self._run.get_inputs()[0].name
        self._check_output()

    @classmethod
    def load(cls, path: Path, threads: int = 1) -> Self:
        """Load `path` and its card; `threads` is ONNX Runtime's intra-op thread count.

        The card inside the file is authoritative; a `<stem>.card.json` beside it must repeat it and
        pins the digest. ArtifactError or CardError name the file and the reason.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ArtifactError(f"{path}: {error.strerror}") from error
        beside = _card_beside(path)
        try:
            session = cls(content, beside, threads)
            session.check_card()
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from error
        except CardError as error:
            raise CardError(f"{path}: {error}") from error
        return session

    @property
    def metadata(self) -> ModelCard:
        """Return the card with the digest of the file that runs, as results carry it."""
        return self.card.model_copy(update={"sha256": self.sha256})

    def embedded_card(self) -> ModelCard:
        """Return the card inside the file; ArtifactError without one, CardError when it is bad."""
        metadata = self._run.get_modelmeta().custom_metadata_map
        if CARD_KEY not in metadata:
            raise ArtifactError(f"it carries no card (metadata key {CARD_KEY})")
        return ModelCard.parse(metadata[CARD_KEY], CARD_KEY)

    def check_card(self) -> None:
        """Raise ArtifactError when the card in use differs from the one inside the file."""
        embedded = self.embedded_card()
        differing = [
            field
            for field in ModelCard.model_fields
            if field != "sha256" and getattr(self.card, field) != getattr(embedded, field)
        ]
        if differing:
            raise ArtifactError(f"its card disagrees with the one inside it: {differing}")

    def predict(
        self, batch: npt.NDArray[np.float32], cancellation: Cancellation | None = None
    ) -> Probabilities:
        """Run the network: float32 (n, bands, S, S) → float32 (n, channels, S, S), summing to 1.

        The batch is normalized; S must be a multiple of 16. Channel 0 is background and always 0.
        Cancelled when `cancellation` was used before or while the network ran.
        """
        bands = len(self.card.bands)
        if batch.ndim != 4 or batch.shape[1] != bands or any(s % MULTIPLE for s in batch.shape[2:]):
            raise ImageError(
                f"a batch must be (n, {bands}, S, S) with S a multiple of {MULTIPLE}, "
                f"got {batch.shape}"
            )
        if batch.dtype != np.float32:
            raise ImageError(f"a batch must be float32, got {batch.dtype}")
        if cancellation is not None and cancellation.cancelled:
            raise Cancelled("cancelled before the run")
        options = cancellation.options if cancellation is not None else None
        try:
            (probabilities,) = self._run.run(None, {self._input: batch}, options)
        except Exception:
            # ONNX Runtime raises its own unexported types when a run is terminated.
            if cancellation is not None and cancellation.cancelled:
                raise Cancelled("cancelled during the run") from None
            raise
        result: Probabilities = probabilities
        return result

    def _check_graph(self) -> None:
        inputs, outputs = self._run.get_inputs(), self._run.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ArtifactError(
                f"the graph has {len(inputs)} inputs and {len(outputs)} outputs, one each expected"
            )
        expected = (
            ("input", inputs[0], len(self.card.bands)),
            ("output", outputs[0], self.card.channels),
        )
        for what, value, channels in expected:
            if value.type != "tensor(float)" or len(value.shape) != 4:
                raise ArtifactError(
                    f"{what} is {value.type} {value.shape}, float32 [N, {channels}, S, S] expected"
                )
            if value.shape[1] != channels:
                raise ArtifactError(
                    f"{what} has {value.shape[1]} channels, its card asks for {channels}"
                )
            fixed = [size for size in (value.shape[0], *value.shape[2:]) if isinstance(size, int)]
            if what == "input" and fixed:
                raise ArtifactError(f"{what} has fixed sizes {value.shape}; N and S must be free")

    def _check_output(self) -> None:
        """Run a small random window: sizes kept, background 0, probabilities sum to 1."""
        size = 4 * MULTIPLE
        shape = (1, len(self.card.bands), size, size)
        probe = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        probabilities = self.predict(probe)
        if probabilities.shape != (1, self.card.channels, size, size):
            raise ArtifactError(
                f"a {size} px window gives {probabilities.shape}, "
                f"(1, {self.card.channels}, {size}, {size}) expected"
            )
        if probabilities[:, 0].any():
            raise ArtifactError("the graph predicts background (channel 0); it must be 0")
        if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
            raise ArtifactError("the graph's output does not sum to 1: a softmax is expected")


def _session_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    # Planned memory is taken as one chunk per concurrent run and kept: a fifth more in all, and
    # not faster (measured, two windows of 704 px at once).
    options.enable_mem_pattern = False
    # Spinning threads slow whatever else serves on these cores; switching it off costs 5 %.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _load(content: bytes, threads: int) -> ort.InferenceSession:
    """Return a session on `content`; weights in other files are looked up in an empty folder."""
    with tempfile.TemporaryDirectory(prefix="landcover-") as empty:
        options = _session_options(threads)
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", empty
        )
        try:
            return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exception types are not exported
            if "external" in str(error).lower() or empty in str(error):
                raise ArtifactError(
                    "its weights lie in other files (external data); export one single file"
                ) from error
            first_line = str(error).splitlines()[0]
            raise ArtifactError(f"ONNX Runtime cannot load it: {first_line}") from error


def _card_beside(path: Path) -> ModelCard | None:
    beside = ModelCard.path_beside(path)
    return ModelCard.parse(beside.read_bytes(), str(beside)) if beside.exists() else None
