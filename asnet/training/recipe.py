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
        How the weights file names the data; the folder's name if empty.
    model : str
        Network configuration that `network` starts from: paper, official or compact.
    network : ASNetConfig or SizeClassifierConfig
        The networks; a recipe's table `network` overrides single fields.
    kernels : BlurKernelConfig
        How blur kernels are sampled; its canvas is the network's kernel grid. For the classifier that is the
        largest size, and every class is drawn as often.
    degradation : DegradationConfig
        Noise and what else is done to the blurred image.
    init : str
        Weights file that the pair, or the classifier, starts from; empty for random weights.
    init_analysis : str
        Weights file that the analysis network starts from, after `init`.
    init_synthesis : str
        Weights file that the synthesis network starts from, after `init`.
    kernel_loss : {"l1", "cross_entropy"}
        Loss on blur kernels.
    image_loss : {"l2", "l1", "charbonnier"}
        Loss on images.
    kernel_loss_weight : float
        Weight of the kernel loss beside the image loss in the joint stage; 0 leaves it out, as in the paper.
    true_kernel_share : float
        Share of each batch that the joint stage deblurs by the true kernels, so that the synthesis network
        does not learn to distrust a good kernel; 0, as in the paper, for none.
    epochs : int
        Length of the run. An epoch ends with validation, a checkpoint and a look at the learning rate.
        The default makes the paper's 10^6 steps; in the joint stage, and for the classifier, it is 10
        epochs, 10^5 steps.
    steps_per_epoch : int
        Steps of an epoch; by default one pass over the paper's 42,000 photographs.
    batch_size : int
        Examples of a step, in each process.
    crop : int
        Side of the training crops in pixels.
    halo : int
        Largest number of pixels around the crops that the synthesis network's deconvolution sees besides; a
        batch has no more of them than its largest blur kernel is wide.
    wrong_kernel_share : float
        Share of each batch for which the synthesis stage is given a wrong kernel, such as an estimate might
        be (`asnet.data.kernel_errors`); the sharp image stays the goal.
    kernel_estimates : str
        File of true kernels and estimates of them (`experiments/estimate_kernels.py`), from which that
        share is drawn; empty for errors that are made up.
    unblurred_share : float
        Probability that the synthesis stage is given an image without blur, and a small kernel with it.
    grey_share : float
        Probability that an image is grey.
    learning_rate : float
        Adam learning rate.
    schedule : {"plateau", "cosine", "constant"}
        How the learning rate falls: by `factor` when the loss stagnates, as half a cosine to 0 at the end of
        the run, or not at all.
    warmup_steps : int
        Steps over which the learning rate rises at the beginning.
    patience : int
        Epochs without a smaller loss that "plateau" waits for.
    factor : float
        What "plateau" then multiplies the learning rate by.
    gradient_clip : float
        Largest norm of the gradient of all weights together; 0 for no limit.
    ema_decay : float
        Decay of the exponential moving average (EMA) of the weights that is validated and saved; 0: none.
    precision : {"float32", "bfloat16"}
        bfloat16: convolutions under autocast; weights, losses and the optimiser stay in float32.
    channels_last : bool
        Memory layout of images and weights; faster on GPUs in bfloat16 and with some CPU convolutions.
    seed : int
        Of the initial weights and of all training data.
    deterministic : bool
        Use only operations that give the same bits at every run; on the CPU they always do.
    log_every : int
        Steps between reports.
    validate_every : int
        Epochs between validations.
    validation_crop : int
        Side of the centre crops that are validated on; 0 for whole photographs.
    validation_count : int
        Photographs that are validated on; 0 for all.
    validation_noise : float
        Standard deviation of the noise in validation; negative for the same degradation as in training.
    validation_seed : int
        Of validation's blur kernels and noise.
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
    image_loss: Literal["l2", "l1", "charbonnier"] = "l2"
    kernel_loss_weight: float = 0.0
    true_kernel_share: float = 0.0
    epochs: int = 95
    steps_per_epoch: int = 10_500
    batch_size: int = 4
    crop: int = 512
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
        for name in ("true_kernel_share", "wrong_kernel_share", "unblurred_share", "grey_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if self.halo and self.stage != "synthesis":
            raise ConfigurationError(f"the {self.stage} stage takes no halo, got {self.halo}")
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
            # 10^5 steps end to end after 10^6 of each part (section 4); of the classifier it says nothing.
            values.setdefault("epochs", 10)
        return cls(stage=stage, **values)

    def to_table(self) -> dict[str, Any]:
        """Return the table (JSON values) from which `from_table` builds this configuration again."""
        table = dataclasses.asdict(self)
        del table["stage"]
        table["network"] = self.network.to_dict()
        return table


def _kernels_for(stage: Stage, network: ASNetConfig | SizeClassifierConfig) -> BlurKernelConfig:
    """Return how blur kernels are sampled for a stage unless a recipe says otherwise."""
    if isinstance(network, SizeClassifierConfig):
        return BlurKernelConfig(canvas=network.class_sizes[-1], class_sizes=network.class_sizes)
    # What the analysis finds bounds the kernels of both other stages.
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
    """Return the stages that a recipe asks for, in their order: its list `stages`, by default all three.

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
    """Return a recipe's values for a stage: the common ones, overridden by the table that bears its name.

    Raises
    ------
    ConfigurationError
        If something else than a table bears the name of a stage.
    """
    for name in TRAINABLE:
        if not isinstance(recipe.get(name, {}), Mapping):
            raise ConfigurationError(f"{name} must be a table, got {recipe[name]!r}")
    common = {key: value for key, value in recipe.items() if key not in (*TRAINABLE, "stages")}
    return merged(common, recipe.get(stage, {}))
