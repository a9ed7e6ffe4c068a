"""Time of the U-Net's input against the operations of torch that it replaces.

    python benchmarks/gather_images.py [--threads 1] [--repeats 9] [--only bfloat16]

As `compact` gathers it: a photograph and its deconvolutions, in blocks of 2 x 2 pixels.
"""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from measure import Case, Contender, arguments, measure_against_torch
from torch import Tensor

from asnet.networks import ASNetConfig
from asnet.networks.layers import round_up
from asnet.networks.synthesis import DIFFERENCE_SCALE
from asnet.ops import gather_images, reference

#: Width and height.
SIZES = [(256, 256), (512, 384), (1024, 768), (2048, 1536)]

#: bfloat16 rounds numbers at the middle between two of it either way.
TOLERANCES = {torch.float32: 1e-6, torch.bfloat16: 1e-2}
GOAL = "faster than torch at every size"


def by_asnet(images: list[Tensor], *arguments: Any, mean: Tensor) -> list[Tensor]:
    """The operator that the synthesis calls."""
    return [gather_images(images, *arguments, mean=mean, difference_scale=DIFFERENCE_SCALE)]


def by_torch(images: list[Tensor], *arguments: Any, mean: Tensor) -> list[Tensor]:
    """Its fallback."""
    return [reference.gather_images(images, *arguments, mean=mean, difference_scale=DIFFERENCE_SCALE)]


def cases() -> Iterator[Case]:
    """Every case, built on demand."""
    config = ASNetConfig.compact().synthesis
    for (width, height), dtype in itertools.product(SIZES, TOLERANCES):
        random = torch.Generator().manual_seed(0)
        first = torch.rand(1, 3, height, width, generator=random)
        images = [first]
        for _ in range(config.image_count - 1):
            images.append(first + 0.1 * torch.randn(first.shape, generator=random))
        size = (round_up(height, config.size_multiple), round_up(width, config.size_multiple))
        operands = (images, config.space_to_depth, size, dtype)
        mean = first.mean((2, 3))
        yield Case(
            f"{width}x{height} {str(dtype).removeprefix('torch.')}",
            [
                Contender("asnet", partial(by_asnet, *operands, mean=mean)),
                Contender("torch", partial(by_torch, *operands, mean=mean), TOLERANCES[dtype]),
            ],
        )


def main() -> None:
    """Measure the cases, print a table and a summary, write the results."""
    options = arguments("The U-Net's input against operations of torch.").parse_args()
    measure_against_torch("gather_images", cases(), options, goal=GOAL)


if __name__ == "__main__":
    main()
