"""The rows of the ablation, the training runs that they need, and the configurations of these runs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from asnet.networks.config.fields import plain_fields
from asnet.networks.size_classifier import CLASS_SIZES
from asnet.training import Stage, TrainingConfig, stage_table
from asnet.training.recipe_tables import merged


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes
    ----------
    stage : {"analysis", "synthesis", "joint", "classifier"}
        The trained networks.
    table : mapping
        The values of its recipe.
    analysis_from, synthesis_from : str
        Runs whose last weights it starts from; random weights if empty.
    """

    stage: Stage
    table: Mapping[str, Any] = field(default_factory=dict)
    analysis_from: str = ""
    synthesis_from: str = ""


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes
    ----------
    name : str
        Its name in `--rows`.
    group, label : str
        As in the paper's table.
    paper : float
        PSNR in dB that the paper reports.
    runs : tuple of str
        The training runs that it needs, in the order of training.
    reference : str
        The row of its group with which it is compared.
    """

    name: str
    group: str
    label: str
    paper: float
    runs: tuple[str, ...]
    reference: str


#: The two parts of the paper's table: synthesis networks given true kernels, and pairs, which are blind.
GUIDANCE = "Synthesis, true kernels"
STRATEGY = "Training strategy"

_PRETRAINED = ("analysis", "synthesis_both")

#: The runs of the scale-optimised pairs, in the order of their classes.
CLASS_RUNS = tuple(f"joint_class_{index + 1}" for index in range(len(CLASS_SIZES)))

ROWS = (
    Row("none", GUIDANCE, "no guidance", 24.80, ("synthesis_none",), "both"),
    Row("additive", GUIDANCE, "additive", 28.58, ("synthesis_additive",), "both"),
    Row("multiplicative", GUIDANCE, "multiplicative", 28.41, ("synthesis_multiplicative",), "both"),
    Row("both", GUIDANCE, "additive and multiplicative", 28.73, ("synthesis_both",), "both"),
    Row("random", STRATEGY, "random initialisation", 25.70, ("joint_random",), "after"),
    Row("before", STRATEGY, "pre-trained, before joint training", 24.82, _PRETRAINED, "after"),
    Row("after", STRATEGY, "pre-trained, after joint training", 26.78, (*_PRETRAINED, "joint"), "after"),
    Row("scale", STRATEGY, "scale-optimised", 27.12, (*_PRETRAINED, *CLASS_RUNS, "classifier"), "after"),
)


def planned_runs(recipe: Mapping[str, Any]) -> dict[str, Run]:
    """Return all runs by name."""
    synthesis, joint = stage_table(recipe, "synthesis"), stage_table(recipe, "joint")
    runs = {"analysis": Run("analysis", stage_table(recipe, "analysis"))}
    for guidance in ("none", "additive", "multiplicative", "both"):
        changes = {"network": {"synthesis": {"guidance": guidance}}}
        runs[f"synthesis_{guidance}"] = Run("synthesis", merged(synthesis, changes))
    pretraining = TrainingConfig.from_table("synthesis", synthesis)
    end_to_end = TrainingConfig.from_table("joint", joint)
    steps = pretraining.total_steps + end_to_end.total_steps
    from_scratch = {
        "epochs": math.ceil(steps / end_to_end.steps_per_epoch),
        "learning_rate": pretraining.learning_rate,
    }
    runs["joint_random"] = Run("joint", merged(joint, from_scratch))
    runs["joint"] = Run("joint", joint, analysis_from="analysis", synthesis_from="synthesis_both")
    grid = end_to_end.kernel_size
    # The paper's classes, at this grid.
    class_sizes = tuple(size * grid // CLASS_SIZES[-1] // 2 * 2 + 1 for size in CLASS_SIZES)
    kernels = replace(end_to_end.kernels, class_sizes=class_sizes)
    for name, (smallest, largest) in zip(CLASS_RUNS, kernels.odd_sizes_of_classes, strict=True):
        sizes = {"kernels": {"minimum_size": smallest, "maximum_size": largest}}
        runs[name] = Run("joint", merged(joint, sizes), "analysis", "synthesis_both")
    single_scale = {"analysis": merged(plain_fields(end_to_end.network.analysis), {"levels": 1})}
    classifier = merged(stage_table(recipe, "analysis"), recipe.get("classifier", {}))
    classifier["network"] = {**single_scale, "class_sizes": list(class_sizes)}
    runs["classifier"] = Run("classifier", classifier)
    return runs
