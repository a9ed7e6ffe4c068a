"""Time of the divergence of shrunk differences against the operations of torch that it replaces.

    python benchmarks/shrunk_divergence.py [--threads 1] [--repeats 9]

The images are those of a sparse deconvolution in `compact`: three channels in float32.
"""

from collections.abc import Iterator
from functools import partial

import torch
from measure import Case, Contender, arguments, measure_against_torch
from torch import Tensor

from asnet.ops import reference, shrunk_divergence

#: Width and height.
SIZES = [(256, 256), (512, 384), (1024, 768), (2048, 1536)]
GOAL = "faster than torch at every size"


def by_asnet(images: Tensor, threshold: Tensor) -> list[Tensor]:
    """The operator that the deconvolution calls."""
    return [shrunk_divergence(images, threshold)]


def by_torch(images: Tensor, threshold: Tensor) -> list[Tensor]:
    """Its fallback."""
    return [reference.shrunk_divergence(images, threshold)]


def cases() -> Iterator[Case]:
    """Every case, built on demand."""
    for width, height in SIZES:
        images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        operands = (images, torch.tensor([0.3]))
        yield Case(
            f"{width}x{height}",
            [
                Contender("asnet", partial(by_asnet, *operands)),
                Contender("torch", partial(by_torch, *operands)),
            ],
        )


def main() -> None:
    """Measure the cases, print a table and a summary, write the results."""
    options = arguments("The divergence of shrunk differences against operations of torch.").parse_args()
    measure_against_torch("shrunk_divergence", cases(), options, goal=GOAL)


if __name__ == "__main__":
    main()
