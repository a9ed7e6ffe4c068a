"""Training of the networks in the three stages of section 3.4."""

from asnet.training.configuration import STAGES, Stage, TrainingConfig, stage_table
from asnet.training.distributed import Processes
from asnet.training.trainer import Trainer
from asnet.training.validation import Validation, make_examples, validate

__all__ = [
    "STAGES",
    "Processes",
    "Stage",
    "Trainer",
    "TrainingConfig",
    "Validation",
    "make_examples",
    "stage_table",
    "validate",
]
