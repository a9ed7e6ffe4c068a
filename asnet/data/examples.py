"""Blurred photographs with known sharp image and blur kernel, for evaluating networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from asnet.data.degradation import DegradationConfig, degrade, with_lights


@dataclass(frozen=True)
class Example:
    """One photograph: blurred and sharp (1, C, H, W), kernel (1, K, K)."""

    name: str
    blurred: Tensor
    sharp: Tensor
    kernel: Tensor


def blurred_examples(
    photographs: Iterable[tuple[str, Tensor]],
    kernels: Tensor,
    config: DegradationConfig,
    *,
    generator: torch.Generator,
) -> Iterator[Example]:
    """Blur photographs lazily, the first by the first kernel and so on.

    Parameters
    ----------
    photographs
        Names and sharp images (C, H + K - 1, W + K - 1) in [0, 1], as many as there are kernels.
    kernels
        (N, K, K), K odd, non-negative, each of sum 1.
    config
        See `DegradationConfig`.
    generator
        Source of every random number. Examples must be taken in order to be the same every time.

    Yields
    ------
    Example
        Blurred and sharp image (1, C, H, W), aligned with each other.
    """
    border = kernels.shape[-1] // 2
    for (name, photograph), kernel in zip(photographs, kernels, strict=True):
        sharp = with_lights(photograph[None], config, generator=generator)
        blurred = degrade(sharp, kernel[None], config, generator=generator)
        sharp = sharp[..., border : sharp.shape[-2] - border, border : sharp.shape[-1] - border]
        yield Example(name, blurred, sharp.clamp_max(1.0), kernel[None])
