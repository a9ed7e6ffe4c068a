"""Time of the transforms of a deconvolution against those of torch, with the factor between them.

    python benchmarks/periodic_spectra.py [--threads 1] [--repeats 9] [--only back]

Images are transformed both ways, and spectra back.
"""

from collections.abc import Iterator
from functools import partial
from typing import cast

import torch
from measure import Case, Contender, arguments, measure_against_torch
from torch import Tensor

from asnet.networks.wiener import kernel_spectra, transfer_function
from asnet.ops import periodic_images, periodic_spectra

#: Width and height.
SIZES = [(256, 256), (512, 384), (1024, 768), (2048, 1536)]
GOAL = "faster than torch at every size"


def back_by_asnet(spectra: Tensor, height: int, factor: Tensor) -> list[Tensor]:
    """Images of spectra that are multiplied by a factor."""
    return [periodic_images(spectra, height, factor)]


def back_by_torch(spectra: Tensor, height: int, factor: Tensor) -> list[Tensor]:
    """The same of half spectra."""
    width = 2 * spectra.shape[3] - 2
    return [cast(Tensor, torch.fft.irfft2(spectra * factor, s=(height, width)))]


def both_by_asnet(images: Tensor, factor: Tensor) -> list[Tensor]:
    """Images whose spectra are multiplied by a factor."""
    return back_by_asnet(periodic_spectra(images), images.shape[2], factor)


def both_by_torch(images: Tensor, factor: Tensor) -> list[Tensor]:
    """The same by half spectra."""
    return back_by_torch(torch.fft.rfft2(images), images.shape[2], factor)


def cases() -> Iterator[Case]:
    """Every case, built on demand."""
    for width, height in SIZES:
        random = torch.Generator().manual_seed(0)
        images = torch.rand(1, 3, height, width, generator=random)
        kernel = torch.rand(1, 31, 31, generator=random) ** 4
        kernel /= kernel.sum()
        # Wiener's factor, less the phase of the kernel, in both layouts.
        ours, theirs = (
            power / (power + 0.01)
            for power in (
                kernel_spectra(kernel, height, width).square().sum(3)[:, 0],
                transfer_function(kernel, height, width).abs().square(),
            )
        )
        yield Case(
            f"{width}x{height}, both",
            [
                Contender("asnet", partial(both_by_asnet, images, ours)),
                Contender("torch", partial(both_by_torch, images, theirs)),
            ],
        )
        yield Case(
            f"{width}x{height}, back",
            [
                Contender("asnet", partial(back_by_asnet, periodic_spectra(images), height, ours)),
                Contender("torch", partial(back_by_torch, torch.fft.rfft2(images), height, theirs)),
            ],
        )


def main() -> None:
    """Measure the cases, print a table and a summary, write the results."""
    options = arguments("The transforms of a deconvolution against those of torch.").parse_args()
    measure_against_torch("periodic_spectra", cases(), options, goal=GOAL)


if __name__ == "__main__":
    main()
