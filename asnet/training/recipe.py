"""Configuration of a training run, from a recipe (TOML), the command line, or both."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from asnet.data.blur_kernels import BlurKernelConfig
from asnet.data.degradation import DegradationConfig
from asnet.errors import ConfigurationError
from asnet.fields import convert, field_types, replaced
from asnet.networks.config import ASNetConfig, preset
from asnet.networks.size_classifier import SizeClassifierConfig
from asnet.training.losses import IMAGE_LOSSES, KERNEL_LOSSES
from asnet.training.recipe_tables import merged
from asnet.training.schedule import Schedule

Stage = Literal["analysis", "synthesis", "joint", "classifier"]

#: The stages in which a pair of networks is trained, in their order.
STAGES: tuple[Stage, ...] = ("analysis", "synthesis", "joint")

#: All that can be trained.
TRAINABLE: tuple[Stage, ...] = (*STAGES, "classifier")

#: Fields of `TrainingConfig` that are tables in a recipe.
TABLES = ("network", "kernels", "degradation")


@dataclass(frozen=True)
class TrainingConfig:
    # Assigned, so that `python -OO` keeps it: the command's help shows what it says of the fields.
    __doc__ = """One training run. The defaults are the paper's schedule (sections 3.4 and 4).

    Parameters
    ----------
    stage : {"analysis", "synthesis", "joint", "classifier"}
        What is trained: the analysis network on true blur kernels, the synthesis network given true blur
        kernels, both end to end, or the size classifier.
    data : str
        Folder of sharp photographs to train on.
    validation : str
        Folder of sharp photographs to validate on; empty for no validation.
    training_data : str
        Name of the data in the weights file; the folder's name if empty.
    model : str
        Network configuration that `network` modifies: paper, official or compact.
    network : ASNetConfig or SizeClassifierConfig
        The networks; a recipe's table `network` overrides single fields.
    kernels : BlurKernelConfig
        Sampling of blur kernels; the canvas is the network's kernel grid. For the classifier it is the
        largest size, and all classes are drawn equally often.
    degradation : DegradationConfig
        Noise and other degradations of the blurred image.
    init : str
        Weights file to initialise the pair or the classifier from; empty for random weights.
    init_analysis : str
        Weights file to initialise the analysis network from, after `init`.
    init_synthesis : str
        Weights file to initialise the synthesis network from, after `init`.
    kernel_loss : {"l1", "cross_entropy"}
        Loss on blur kernels.
    image_loss : {"l2", "l1", "charbonnier", "log_l2"}
        Loss on images.
    teachers : tuple of str
        Weights files whose synthesis networks restore each batch as well, every one another mirror image; one
        may occur several times.
    teacher_share : float
        Share that the mean of the teachers' restorations has in the target of the synthesis stage.
    kernel_loss_weight : float
        Weight of the kernel loss relative to the image loss in the joint stage; 0 omits it, as in the paper.
    true_kernel_share : float
        Share of each batch that the joint stage deblurs with the true kernels, so that the synthesis network
        does not learn to distrust good kernels; 0, as in the paper, for none.
    epochs : int
        Length of the run. An epoch ends with validation, a checkpoint and an update of the learning rate.
        The default gives the paper's 10^6 steps; in the joint stage, and for the classifier, it is 10
        epochs, 10^5 steps.
    steps_per_epoch : int
        Steps per epoch; by default one pass over the paper's 42,000 photographs.
    batch_size : int
        Examples per step, in each process.
    crop : int
        Side of the training crops in pixels.
    repeats : int
        Steps of the synthesis stage for each new batch, which is kept for a while and deconvolved only once.
    halo : int
        Largest number of pixels around the crops for the synthesis network's deconvolution; a batch has at
        most as many as its largest blur kernel is wide.
    wrong_kernel_share : float
        Share of each batch for which the synthesis stage gets a wrong kernel, like that of an estimate
        (`asnet.data.kernel_errors`); the target is still the sharp image.
    kernel_estimates : str
        File of true kernels and estimates of them (`experiments/estimate_kernels.py`), from which that share
        is drawn; empty for simulated errors.
    unblurred_share : float
        Probability that the synthesis stage gets an image without blur, and a small kernel with it.
    grey_share : float
        Probability that an image is grey.
    learning_rate : float
        Adam learning rate.
    schedule : {"plateau", "cosine", "constant"}
        Decay of the learning rate: by `factor` when the loss stagnates, along half a cosine to 0 at the end
        of the run, or none.
    warmup_steps : int
        Steps over which the learning rate rises initially.
    patience : int
        Epochs without a smaller loss before "plateau" reduces the learning rate.
    factor : float
        Factor of that reduction.
    gradient_clip : float
        Largest norm of the gradient of all weights; 0 for no limit.
    ema_decay : float
        Decay of the exponential moving average (EMA) of the weights that is validated and saved; 0 for none.
    precision : {"float32", "bfloat16"}
        bfloat16: convolutions under autocast; weights, losses and the optimiser stay in float32.
    channels_last : bool
        Memory layout of images and weights; faster on GPUs in bfloat16 and with some CPU convolutions.
    seed : int
        Seed of the initial weights and of all training data.
    deterministic : bool
        Use only operations that give the same bits in every run; on the CPU they always do.
    log_every : int
        Steps between reports.
    validate_every : int
        Epochs between validations.
    validation_crop : int
        Side of the centre crops for validation; 0 for whole photographs.
    validation_count : int
        Number of photographs for validation; 0 for all.
    validation_noise : float
        Standard deviation of the noise in validation; negative for the same degradation as in training.
    validation_seed : int
        Seed of validation's blur kernels and noise.
    """

    stage: Stage
    data: str
    validation: str = ""
    training_data: str = ""
    model: str = "paper"
    network: ASNetConfig | SizeClassifierConfig = field(default_factory=ASNetConfig.paper)
    kernels: BlurKernelConfig = field(default_factory=BlurKernelConfig)
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    init: str = ""
    init_analysis: str = ""
    init_synthesis: str = ""
    kernel_loss: Literal["l1", "cross_entropy"] = "l1"
    image_loss: Literal["l2", "l1", "charbonnier", "log_l2"] = "l2"
    teachers: tuple[str, ...] = ()
    teacher_share: float = 0.8
    kernel_loss_weight: float = 0.0
    true_kernel_share: float = 0.0
    epochs: int = 95
    steps_per_epoch: int = 10_500
    batch_size: int = 4
    crop: int = 512
    repeats: int = 1
    halo: int = 0
    wrong_kernel_share: float = 0.0
    kernel_estimates: str = ""
    unblurred_share: float = 0.0
    grey_share: float = 0.0
    learning_rate: float = 1e-4
    schedule: Schedule = "plateau"
    warmup_steps: int = 0
    patience: int = 5
    factor: float = 0.8
    gradient_clip: float = 0.0
    ema_decay: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    seed: int = 0
    deterministic: bool = False
    log_every: int = 50
    validate_every: int = 1
    validation_crop: int = 0
    validation_count: int = 0
    validation_noise: float = -1.0
    validation_seed: int = 1

    def __post_init__(self) -> None:
        for name in (
            "epochs",
            "steps_per_epoch",
            "batch_size",
            "crop",
            "repeats",
            "patience",
            "log_every",
            "validate_every",
        ):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in (
            "warmup_steps",
            "halo",
            "validation_crop",
            "validation_count",
            "gradient_clip",
            "kernel_loss_weight",
        ):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"{name} must not be negative, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ConfigurationError(f"learning_rate must be positive, got {self.learning_rate}")
        for name in (
            "true_kernel_share",
            "wrong_kernel_share",
            "unblurred_share",
            "grey_share",
            "teacher_share",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        for name in ("repeats", "teachers", "halo"):
            value = getattr(self, name)
            if self.stage != "synthesis" and value != getattr(TrainingConfig, name):
                raise ConfigurationError(f"the {self.stage} stage takes no {name}, got {value}")
        if not 0 < self.factor <= 1:
            raise ConfigurationError(f"factor must be above 0 and at most 1, got {self.factor}")
        if not 0 <= self.ema_decay < 1:
            raise ConfigurationError(f"ema_decay must be at least 0 and below 1, got {self.ema_decay}")
        if (self.stage == "classifier") != isinstance(self.network, SizeClassifierConfig):
            raise ConfigurationError(f"the network {self.network.name} has no {self.stage} stage")
        if self.stage == "classifier" and (self.init_analysis or self.init_synthesis):
            raise ConfigurationError("init_analysis and init_synthesis are for pairs, a classifier has init")
        if self.kernels.canvas != self.kernel_size:
            raise ConfigurationError(
                f"kernels.canvas must be the grid of {self.kernel_size} pixels of what is trained, "
                f"got {self.kernels.canvas}"
            )
        if isinstance(self.network, SizeClassifierConfig):
            sizes, (smallest, largest) = self.network.class_sizes, self.kernels.odd_sizes
            if self.kernels.class_sizes != sizes or len(self.kernels.odd_sizes_of_classes) < len(sizes):
                raise ConfigurationError(
                    f"the blur kernels that a classifier learns from must reach all its classes, {sizes}, "
                    f"got sizes of {smallest} to {largest} pixels and the classes {self.kernels.class_sizes}"
                )
        if self.kernel_loss not in KERNEL_LOSSES or self.image_loss not in IMAGE_LOSSES:
            raise ConfigurationError(f"unknown loss {self.kernel_loss!r} or {self.image_loss!r}")

    @property
    def kernel_size(self) -> int:
        """Side of the kernel grid of what is trained, or a classifier's largest size, in pixels."""
        return _kernels_for(self.stage, self.network).canvas

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @classmethod
    def from_table(cls, stage: Stage, table: Mapping[str, Any]) -> "TrainingConfig":
        """Build the configuration of a stage from a table.

        Parameters
        ----------
        stage : {"analysis", "synthesis", "joint", "classifier"}
            The stage.
        table : mapping
            Field names to values as TOML, JSON or the command line give them; `network`, `kernels` and
            `degradation` are tables that override single fields.

        Raises
        ------
        ConfigurationError
            If a field is unknown, has a wrong type or value, or `data` is missing.
        """
        annotations = {name: kind for name, kind in field_types(cls).items() if name != "stage"}
        for name in table:
            if name not in annotations:
                raise ConfigurationError(
                    f"training option {name!r} is unknown; there are {', '.join(annotations)}"
                )
        for name in TABLES:
            if not isinstance(table.get(name, {}), Mapping):
                raise ConfigurationError(f"{name} must be a table, got {table[name]!r}")
        values = {
            name: convert(annotations[name], value, name)
            for name, value in table.items()
            if name not in TABLES
        }
        if not values.get("data"):
            raise ConfigurationError("data must name a folder of sharp photographs")
        network = _network(stage, values.get("model", cls.model), table.get("network", {}))
        values["network"] = network
        values["kernels"] = replaced(_kernels_for(stage, network), table.get("kernels", {}), "kernels")
        values["degradation"] = replaced(DegradationConfig(), table.get("degradation", {}), "degradation")
        if stage in ("joint", "classifier"):
            # 10^5 steps end to end after 10^6 of each part (section 4), which does not mention the
            # classifier.
            values.setdefault("epochs", 10)
        return cls(stage=stage, **values)

    def to_table(self) -> dict[str, Any]:
        """Return the table (JSON values) from which `from_table` builds this configuration again."""
        table = dataclasses.asdict(self)
        del table["stage"]
        table["network"] = self.network.to_dict()
        return table


def _kernels_for(stage: Stage, network: ASNetConfig | SizeClassifierConfig) -> BlurKernelConfig:
    """Return the default sampling of blur kernels for a stage."""
    if isinstance(network, SizeClassifierConfig):
        return BlurKernelConfig(canvas=network.class_sizes[-1], class_sizes=network.class_sizes)
    # The kernels of both other stages are limited to those of the analysis.
    part = network.synthesis if stage == "synthesis" else network.analysis
    return BlurKernelConfig(canvas=part.kernel_size)


def _network(stage: Stage, model: str, overrides: Mapping[str, Any]) -> ASNetConfig | SizeClassifierConfig:
    """Return the preset `model` with the fields of `overrides` replaced."""
    if stage == "classifier":
        return SizeClassifierConfig.from_dict(merged(SizeClassifierConfig.preset(model).to_dict(), overrides))
    base = preset(model).to_dict()
    analysis = overrides.get("analysis", {})
    if (
        isinstance(analysis, Mapping)
        and analysis.get("kind", base["analysis"]["kind"]) != base["analysis"]["kind"]
    ):
        # The two kinds of analysis share no fields but the kernel grid.
        base["analysis"] = {"kernel_size": base["analysis"]["kernel_size"]}
    return ASNetConfig.from_dict(merged(base, overrides))


def recipe_stages(recipe: Mapping[str, Any]) -> tuple[Stage, ...]:
    """Return the stages of a recipe, in order: its list `stages`, by default all three.

    Raises
    ------
    ConfigurationError
        If `stages` is not a list of different stages.
    """
    chosen = recipe.get("stages", STAGES)
    if (
        not isinstance(chosen, list | tuple)
        or not chosen
        or sorted(chosen) != sorted(set(chosen) & set(STAGES))
    ):
        raise ConfigurationError(f"stages must list some of {', '.join(STAGES)}, got {chosen!r}")
    return tuple(stage for stage in STAGES if stage in chosen)


def stage_table(recipe: Mapping[str, Any], stage: Stage) -> dict[str, Any]:
    """Return a recipe's values for a stage: the common ones, overridden by the stage's table.

    Raises
    ------
    ConfigurationError
        If the entry of a stage is not a table.
    """
    for name in TRAINABLE:
        if not isinstance(recipe.get(name, {}), Mapping):
            raise ConfigurationError(f"{name} must be a table, got {recipe[name]!r}")
    common = {key: value for key, value in recipe.items() if key not in (*TRAINABLE, "stages")}
    return merged(common, recipe.get(stage, {}))
