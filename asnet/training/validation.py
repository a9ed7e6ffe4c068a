"""Validation: the same photographs, blur kernels and noise every time, on any device."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from asnet.data.blur_kernels import sample_blur_kernels, support_size
from asnet.data.examples import Example, blurred_examples
from asnet.data.photograph_pool import Photographs
from asnet.errors import InputError
from asnet.evaluation.metrics import kernel_similarity, psnr, self_symmetry
from asnet.networks.config import ASNetConfig
from asnet.networks.pair import DeblurNetwork
from asnet.networks.size_classifier import SizeClassifier
from asnet.networks.wiener import wiener_deconvolution
from asnet.training.distributed import Processes
from asnet.training.losses import class_cross_entropy
from asnet.training.recipe import Stage, TrainingConfig
from asnet.training.stages import TrainedNetworks

#: Regularisation strengths of the Wiener comparison if the synthesis network has none.
WIENER_STRENGTHS = (0.002, 0.01, 0.05)

#: The measure that selects the best weights: the larger, the better.
CRITERIA: dict[Stage, str] = {
    "analysis": "kernel_similarity",
    "synthesis": "psnr",
    "joint": "psnr",
    "classifier": "accuracy",
}

#: Measures of each photograph, in the order of the columns of the table that processes share.
MEASURES: dict[Stage, tuple[str, ...]] = {
    "analysis": (
        "kernel_similarity",
        "self_symmetry",
        "psnr_blurred",
        "psnr_wiener",
        "psnr_wiener_true_kernel",
    ),
    "synthesis": ("psnr", "psnr_blurred", "psnr_wiener_true_kernel"),
    "joint": ("psnr", "psnr_blurred", "psnr_true_kernel", "kernel_similarity", "self_symmetry"),
    "classifier": ("accuracy", "cross_entropy"),
}

#: Photographs that appear in the visualisation.
SHEET_ROWS = 4


@dataclass(frozen=True)
class Picture:
    """One row of the visualisation on the CPU: images (3, H, W), kernels (K, K)."""

    name: str
    blurred: Tensor
    estimate: Tensor
    sharp: Tensor
    estimated_kernel: Tensor
    true_kernel: Tensor
    caption: str


@dataclass(frozen=True)
class Validation:
    """Results of one validation.

    Parameters
    ----------
    names : tuple of str
        The photographs.
    measures : dict of str to Tensor
        For each measure one float64 value per photograph; PSNR in dB, cross entropy in nats, and as accuracy
        1 or 0 for a right or wrong class.
    pictures : tuple of Picture
        For the visualisation; none for a size classifier.
    """

    names: tuple[str, ...]
    measures: dict[str, Tensor]
    pictures: tuple[Picture, ...]

    def means(self) -> dict[str, float]:
        """Return each measure's mean over the photographs."""
        return {name: float(values.mean()) for name, values in self.measures.items()}

    def per_photograph(self) -> dict[str, dict[str, float]]:
        """Return the measures of each photograph under its name."""
        return {
            name: {measure: float(values[index]) for measure, values in self.measures.items()}
            for index, name in enumerate(self.names)
        }


def make_examples(config: TrainingConfig) -> list[Example]:
    """Blur the validation photographs, with kernels and noise that depend only on `validation_seed`.

    Raises
    ------
    InputError
        If a photograph is smaller than the crop with the blur kernel's border.
    """
    photographs = Photographs(Path(config.validation))
    count = min(config.validation_count or len(photographs), len(photographs))
    generator = torch.Generator().manual_seed(config.validation_seed)
    kernels = sample_blur_kernels(count, replace(config.kernels, one_class=False), generator=generator)
    degradation = config.degradation
    if config.validation_noise >= 0:
        degradation = replace(degradation, noise=(config.validation_noise, config.validation_noise))
    border = config.kernels.canvas // 2
    photographs.require_side((config.validation_crop or 16) + 2 * border)
    names = photographs.names[:count]
    images = (photographs[index] for index in range(count))
    if config.validation_crop:
        side = config.validation_crop + 2 * border
        images = (_centre(image, side) for image in images)
    return list(blurred_examples(zip(names, images, strict=True), kernels, degradation, generator=generator))


def _centre(image: Tensor, side: int) -> Tensor:
    top, left = (image.shape[-2] - side) // 2, (image.shape[-1] - side) // 2
    return image[..., top : top + side, left : left + side]


def validate(
    stage: Stage,
    network: TrainedNetworks,
    examples: list[Example],
    *,
    device: torch.device,
    autocast: torch.autocast,
    processes: Processes,
    stopping: Callable[[], bool] = lambda: False,
) -> Validation | None:
    """Measure the networks on the examples, which are divided among the processes.

    Parameters
    ----------
    stage : {"analysis", "synthesis", "joint", "classifier"}
        Selects the measures, see `MEASURES`: the synthesis stage uses true kernels, the joint stage is blind,
        the analysis stage is measured by its kernels and by plain Wiener deconvolution with them, a size
        classifier by its classes.
    network : DeblurNetwork or SizeClassifier
        The trained network, on `device`.
    examples : list of Example
        From `make_examples`.
    device : torch.device
        Device of the networks.
    autocast : torch.autocast
        Context of the networks.
    processes : Processes
        The processes that share the work; all get the same measures, each its own pictures.
    stopping : callable
        Called between photographs; if it returns True in a run of one process, None is returned.
    """
    if not examples:
        raise InputError("validation needs at least one photograph")
    measures = MEASURES[stage]
    table = torch.zeros(len(examples), len(measures), dtype=torch.float64, device=device)
    pictures: list[Picture] = []
    was_training = network.training
    network.eval()
    for index in range(processes.rank, len(examples), processes.count):
        if processes.count == 1 and stopping():
            network.train(was_training)
            return None
        if isinstance(network, SizeClassifier):
            values = _judge(network, examples[index], device, autocast)
        else:
            values, picture = _examine(stage, network, examples[index], device, autocast)
            if len(pictures) < SHEET_ROWS:
                pictures.append(picture)
        table[index] = torch.tensor([values[measure] for measure in measures], dtype=torch.float64)
    network.train(was_training)
    table = processes.sum(table).cpu()
    return Validation(
        tuple(example.name for example in examples),
        {measure: table[:, column] for column, measure in enumerate(measures)},
        tuple(pictures),
    )


@torch.no_grad()
def _judge(
    network: SizeClassifier, example: Example, device: torch.device, autocast: torch.autocast
) -> dict[str, float]:
    with autocast:
        logits = network(example.blurred.to(device))
    classes = network.config.classes_of(support_size(example.kernel)).to(device)
    return {
        "accuracy": float(logits.argmax(1) == classes),
        "cross_entropy": float(class_cross_entropy(logits, classes)),
    }


@torch.no_grad()
def _examine(
    stage: Stage, network: DeblurNetwork, example: Example, device: torch.device, autocast: torch.autocast
) -> tuple[dict[str, float], Picture]:
    blurred, sharp = example.blurred.to(device), example.sharp.to(device)
    true_kernel = example.kernel.to(device)
    strengths = _strengths(network.config)
    values: dict[str, Tensor] = {"psnr_blurred": psnr(blurred.clamp(0, 1), sharp)}
    kernel = true_kernel
    if stage == "synthesis":
        with autocast:
            image = network.synthesis(blurred, true_kernel).float()
        values["psnr"] = psnr(image.clamp(0, 1), sharp)
        values["psnr_wiener_true_kernel"] = _best(
            wiener_deconvolution(blurred, true_kernel, strengths), sharp
        )[0]
    else:
        with autocast:
            kernel = network.analysis(blurred).float()
        values["kernel_similarity"] = kernel_similarity(kernel, true_kernel)
        values["self_symmetry"] = self_symmetry(kernel)
        if stage == "analysis":
            values["psnr_wiener"], image = _best(wiener_deconvolution(blurred, kernel, strengths), sharp)
            values["psnr_wiener_true_kernel"] = _best(
                wiener_deconvolution(blurred, true_kernel, strengths), sharp
            )[0]
        else:
            with autocast:
                image = network.synthesis(blurred, kernel, estimated=True).float()
                image_true_kernel = network.synthesis(blurred, true_kernel).float()
            values["psnr"] = psnr(image.clamp(0, 1), sharp)
            values["psnr_true_kernel"] = psnr(image_true_kernel.clamp(0, 1), sharp)
    numbers = {name: float(value) for name, value in values.items()}
    caption = f"{numbers['psnr_blurred']:.2f} dB blurred, {numbers[_sheet_measure(stage)]:.2f} dB deblurred"
    if "kernel_similarity" in numbers:
        caption += f", kernel similarity {numbers['kernel_similarity']:.3f}"
    picture = Picture(
        example.name,
        example.blurred[0],
        image[0].cpu(),
        example.sharp[0],
        kernel[0].cpu(),
        example.kernel[0],
        caption,
    )
    return numbers, picture


def _sheet_measure(stage: Stage) -> str:
    return "psnr_wiener" if stage == "analysis" else "psnr"


def _strengths(config: ASNetConfig) -> tuple[float, ...]:
    return config.synthesis.wiener_strengths or WIENER_STRENGTHS


def _best(images: Tensor, sharp: Tensor) -> tuple[Tensor, Tensor]:
    """Of images (1, S, 3, H, W) return the highest PSNR (1,) and its image (1, 3, H, W)."""
    scores = psnr(images[0].clamp(0, 1), sharp.expand(images.shape[1], -1, -1, -1))
    best = int(scores.argmax())
    return scores[best : best + 1], images[:, best]


def is_better(value: float, best: float | None) -> bool:
    """Whether a criterion's value beats the best so far; NaN never does."""
    return not math.isnan(value) and (best is None or value > best)
