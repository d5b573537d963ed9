"""Why a model file, a card or an image was refused.

ModelError
├── CardError        the card is unreadable or contradicts itself
├── ArtifactError    the .onnx file is missing, altered, unsafe or disagrees with its card
├── EngineError      this machine or installation has no such engine
├── ImageError       an image handed in has the wrong shape or dtype
└── Cancelled        the run was stopped on request
"""


class ModelError(Exception):
    """Base of everything this package raises on purpose."""


class CardError(ModelError):
    """The card is unreadable or contradicts itself."""


class ArtifactError(ModelError):
    """The .onnx file is missing, altered, unsafe or disagrees with its card."""


class EngineError(ModelError):
    """This machine or installation has no such engine."""


class ImageError(ModelError, ValueError):
    """An image handed in has the wrong shape or dtype."""


class Cancelled(ModelError):
    """The run was stopped on request."""
