"""What can go wrong while training, as a tree.

TrainingError
├── PresetError     a preset that does not exist, or holds an unknown or impossible value
├── LabelError      imagery and labels that do not fit each other, or hold no usable pixel
├── SplitError      a split that would leave a side empty
├── CheckpointError a checkpoint that is damaged or belongs to another run
├── ExportError     an exported file that does not answer as the net does
└── AssessmentError results that cannot be read, or do not belong together
"""


class TrainingError(Exception):
    """Base of everything this package raises on purpose."""


class PresetError(TrainingError):
    """A preset does not exist, or holds an unknown or impossible value."""


class LabelError(TrainingError):
    """Imagery and labels do not fit each other, or hold no usable pixel."""


class SplitError(TrainingError):
    """A split would leave one side without pixels."""


class CheckpointError(TrainingError):
    """A checkpoint is damaged, or was written by another run."""


class ExportError(TrainingError):
    """The exported file does not answer as the net does."""


class AssessmentError(TrainingError):
    """Results cannot be read, or do not belong together."""
