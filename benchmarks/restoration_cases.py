"""Cases of the restoration benchmark: three classes of kernels, each under several conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from asnet.data import (
    BlurKernelConfig,
    DegradationConfig,
    Example,
    Photographs,
    blurred_examples,
    sample_blur_kernels,
)
from asnet.data.text_pages import text_pages
from asnet.errors import InputError

#: Smallest and largest side of the blur kernels of each class, in pixels.
CLASSES = {"small": (3, 31), "medium": (33, 61), "large": (63, 101)}

#: A path one pixel wide, often with a faint tail or as a loop.
_THIN = {"thin_probability": 1.0, "tail_probability": 0.5, "loop_probability": 0.3}
#: Every other kernel of this kind, the others soft.
_MIXED = {"thin_probability": 0.5, "tail_probability": 0.3, "loop_probability": 0.2}

#: Size of a page of text in pixels.
_PAGE = (512, 768)


@dataclass(frozen=True)
class Condition:
    """Degradation of a photograph besides the size of the blur.

    Parameters
    ----------
    noise
        Standard deviation of Gaussian noise, for intensities in [0, 1].
    kernels, degradation
        Further fields of `BlurKernelConfig` and `DegradationConfig`.
    exposure
        Factor on the sharp photograph before the blur.
    text
        Pages of text instead of photographs.
    """

    noise: float = 0.01
    kernels: Mapping[str, Any] = field(default_factory=dict)
    degradation: Mapping[str, Any] = field(default_factory=dict)
    exposure: float = 1.0
    text: bool = False


CONDITIONS = {
    "plain": Condition(),
    "thin": Condition(kernels=_THIN),
    "lights": Condition(kernels=_MIXED, degradation={"lights": (8, 30)}, exposure=0.5),
    "jpeg": Condition(kernels=_MIXED, degradation={"jpeg": (60, 90)}),
    "noise": Condition(kernels=_MIXED, noise=0.03),
    "text": Condition(kernels=_MIXED, text=True),
}

#: Under conditions other than plain, every n-th photograph is measured.
STRIDE = 3


@dataclass(frozen=True)
class RestorationCase:
    """One class of kernels under one condition."""

    kernel_class: str
    condition: str

    @property
    def name(self) -> str:
        """Both in words."""
        return f"{self.kernel_class} {self.condition}"

    def seed(self, seed: int) -> int:
        """Every case has its own kernels and noise; "small plain" has those of the seed itself."""
        place = list(CLASSES).index(self.kernel_class) * len(CONDITIONS)
        return seed + 1000 * (place + list(CONDITIONS).index(self.condition))

    def examples(self, photographs: Photographs, names: list[str], seed: int) -> Iterator[Example]:
        """Blur photographs or pages lazily; each is the same regardless of which others are chosen.

        Parameters
        ----------
        photographs : Photographs
            Sharp ones.
        names : list of str
            Photographs or pages, without suffix; those not in this case are ignored. If empty, the plain
            condition uses all photographs, the others every third, and text all pages.
        seed : int
            Seed of kernels, noise and other random numbers.

        Raises
        ------
        InputError
            If a photograph is too small for the kernels.
        """
        condition = CONDITIONS[self.condition]
        smallest, largest = CLASSES[self.kernel_class]
        config = BlurKernelConfig(canvas=largest, minimum_size=smallest, **condition.kernels)
        degradation = DegradationConfig(
            noise=(condition.noise, condition.noise), **dict(condition.degradation)
        )
        if condition.text:
            sources = iter(text_pages(*_PAGE))
            count, stride = len(text_pages(*_PAGE)), 1
        else:
            photographs.require_side(16 + largest)
            images = (image * condition.exposure for image in photographs)
            sources = zip(photographs.names, images, strict=True)
            count, stride = len(photographs), 1 if self.condition == "plain" else STRIDE
        generator = torch.Generator().manual_seed(self.seed(seed))
        kernels = sample_blur_kernels(count, config, generator=generator)
        for index, example in enumerate(blurred_examples(sources, kernels, degradation, generator=generator)):
            if Path(example.name).stem in names if names else index % stride == 0:
                yield example


def chosen_cases(classes: list[str], conditions: list[str]) -> list[RestorationCase]:
    """Return all cases of the given classes and conditions; an empty list means all.

    Raises
    ------
    InputError
        If there is no such class or condition.
    """
    for given, known, what in ((classes, CLASSES, "class"), (conditions, CONDITIONS, "condition")):
        for name in given:
            if name not in known:
                raise InputError(f"unknown {what} {name!r}, expected {', '.join(known)}")
    return [
        RestorationCase(kernel_class, condition)
        for kernel_class in classes or CLASSES
        for condition in conditions or CONDITIONS
    ]
