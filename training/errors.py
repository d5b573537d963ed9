"""Errors of training, as a tree.

TrainingError
├── PresetError     a preset that does not exist, or has an unknown or invalid value
├── CrosswalkError  a crosswalk that does not exist or contradicts itself
├── LabelError      imagery and labels that do not fit each other, or have no usable pixel
├── SplitError      a split that would leave a side empty
├── CheckpointError a checkpoint that is damaged or belongs to another run
├── ExportError     an exported file that disagrees with the network
├── DiskError       the disk is full
├── ChipError       a folder of chips that is damaged or empty
├── StepError       a step of a run that cannot start, or a folder that is no run
└── AssessmentError results that cannot be read or combined
"""


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


class DiskError(TrainingError):
    """The disk is full."""


class ChipError(TrainingError):
    """A folder of chips is damaged, or would be empty."""


class StepError(TrainingError):
    """A step of a run cannot start, or the folder is no run."""


class CrosswalkError(TrainingError):
    """A crosswalk does not exist, cannot be read, or contradicts itself."""
