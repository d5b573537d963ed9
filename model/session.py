"""One model file, checked against its card and run by an engine.

The file is read once; what was hashed is what runs. A file is refused, with the reason, when
its digest, metadata, inputs or outputs are not what its card says, or when its weights lie in
other files.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from model.card import METADATA_PREFIX, ModelCard, ServedCard
from model.engines import DEFAULT, Cancellation, Engine, OnnxRuntimeEngine, Probabilities
from model.errors import ArtifactError, Cancelled, CardError, ImageError
from model.windows import MULTIPLE

__all__ = ["CARD_KEY", "Cancellation", "Probabilities", "Session"]

CARD_KEY = f"{METADATA_PREFIX}card"


class Session:
    """A loaded model. Safe to call from several threads at once."""

    def __init__(self, content: bytes, card: ModelCard | None = None, threads: int = 1) -> None:
        """Check `content` (an ONNX file) against `card`; ArtifactError when they disagree.

        Without `card` the one inside the file is used. `threads`: ONNX Runtime's intra-op threads.
        """
        engine = OnnxRuntimeEngine(content, threads)
        self.engine: Engine = engine
        self._embedded = engine.metadata.get(CARD_KEY)
        self.card = card or self.embedded_card()
        self.sha256 = engine.digest
        if self.card.sha256 not in (None, self.sha256):
            raise ArtifactError(
                f"sha256 of the model file is {self.sha256}, its card says {self.card.sha256}"
            )
        self._check_graph(engine.inputs, engine.outputs)
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
    def metadata(self) -> ServedCard:
        """Return the card with the digest of the file and what runs it, as results carry it."""
        fields = {name: getattr(self.card, name) for name in ModelCard.model_fields}
        return ServedCard(**fields | {"sha256": self.sha256, "engine": str(self.engine.spec)})

    @property
    def identity(self) -> str:
        """Return what classes depend on besides the pixels: the digest of the file and, unless that
        is ONNX Runtime in fp32, the engine, its precision and the digest of the file it runs."""
        if self.engine.spec == DEFAULT:
            return self.sha256
        return f"{self.sha256} {self.engine.spec} {self.engine.digest}"

    @cached_property
    def halo_covers_reach(self) -> bool:
        """Return whether no class depends on what lies outside its block's halo, so that windows
        may be joined: measured once, as the reach of the network is nowhere written."""
        halo, bands = self.card.halo, len(self.card.bands)
        size = 2 * halo + 4 * MULTIPLE
        noise = np.random.default_rng(0).standard_normal((1, bands, size, size), dtype=np.float32)
        inner = slice(MULTIPLE, size - MULTIPLE)
        whole = self.predict(noise)[..., inner, inner]
        alone = self.predict(np.ascontiguousarray(noise[..., inner, inner]))
        core = slice(halo, halo + 2 * MULTIPLE)
        return bool(np.array_equal(whole[..., core, core], alone[..., core, core]))

    def with_engine(self, engine: Engine) -> Session:
        """Return the same model run by another engine; ArtifactError when it computes something
        else than probabilities."""
        other = copy.copy(self)
        other.__dict__.pop("halo_covers_reach", None)
        other.engine = engine
        other._check_output()
        return other

    def embedded_card(self) -> ModelCard:
        """Return the card inside the file; ArtifactError without one, CardError when it is bad."""
        if self._embedded is None:
            raise ArtifactError(f"it carries no card (metadata key {CARD_KEY})")
        return ModelCard.parse(self._embedded, CARD_KEY)

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
        return self.engine.run(batch, cancellation)

    def _check_graph(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
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


def _card_beside(path: Path) -> ModelCard | None:
    beside = ModelCard.path_beside(path)
    return ModelCard.parse(beside.read_bytes(), str(beside)) if beside.exists() else None
