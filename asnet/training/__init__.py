"""Training of a pair of networks in the three stages of section 3.4, and of the size classifier."""

from asnet.training.distributed import Processes
from asnet.training.recipe import STAGES, TRAINABLE, Stage, TrainingConfig, stage_table
from asnet.training.trainer import Trainer
from asnet.training.validation import Validation, make_examples, validate

__all__ = [
    "STAGES",
    "TRAINABLE",
    "Processes",
    "Stage",
    "Trainer",
    "TrainingConfig",
    "Validation",
    "make_examples",
    "stage_table",
    "validate",
]
