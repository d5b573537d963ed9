"""Errors of training: each is a TrainingError and names the value or file and the reason."""


class TrainingError(Exception):
    """Base of the errors that this package raises."""


class PresetError(TrainingError):
    """A preset does not exist, or has an unknown or invalid value."""


class LabelError(TrainingError):
    """Imagery and labels do not fit each other, or have no usable pixel."""


class SplitError(TrainingError):
    """A split would leave one side without pixels."""


class CheckpointError(TrainingError):
    """A checkpoint is damaged, or was written by another run."""


class ExportError(TrainingError):
    """The exported file disagrees with the network."""


class AssessmentError(TrainingError):
    """Results cannot be read or combined."""


class ComputeError(TrainingError):
    """This machine has no such device."""


class Interrupted(TrainingError):
    """A run was stopped by a signal, and its state is saved. number: of the signal."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


class DiskError(TrainingError):
    """The disk is full."""


class ChipError(TrainingError):
    """A folder of chips is damaged, or would be empty."""


class StepError(TrainingError):
    """A step of a run cannot start, or the folder is no run."""


class CrosswalkError(TrainingError):
    """A crosswalk does not exist, cannot be read, or contradicts itself."""
