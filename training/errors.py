"""What can go wrong while training, as a tree.

TrainingError
├── PresetError     a preset that does not exist, or holds an unknown or impossible value
├── CrosswalkError  a crosswalk that does not exist or contradicts itself
├── LabelError      imagery and labels that do not fit each other, or hold no usable pixel
├── SplitError      a split that would leave a side empty
├── CheckpointError a checkpoint that is damaged or belongs to another run
├── ExportError     an exported file that does not answer as the net does
├── DiskError       no room for what was to be written
├── ChipError       a folder of chips that is damaged, or holds nothing
├── StepError       a step of a run that cannot begin, or a run folder of something else
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


class DiskError(TrainingError):
    """There is no room on the disk for what was to be written."""


class ChipError(TrainingError):
    """A folder of chips is damaged, or would hold nothing."""


class StepError(TrainingError):
    """A step of a run cannot begin, or the run folder belongs to something else."""


class CrosswalkError(TrainingError):
    """A crosswalk does not exist, cannot be read, or contradicts itself."""
