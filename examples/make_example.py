"""Blurs a sharp photograph with a random blur kernel and noise: how the example of this folder was made.

    python examples/make_example.py PHOTOGRAPH FOLDER --seed 3

writes FOLDER/blurred.jpg, FOLDER/sharp.jpg (the photograph's part that the blurred one shows) and
FOLDER/kernel.png. The same photograph and seed give the same pictures.
"""

import argparse
from pathlib import Path

import torch

from asnet.data import BlurKernelConfig, DegradationConfig, degrade, sample_blur_kernels
from asnet.imaging import Photograph, read_photograph, unit_range, write_kernel, write_photograph

NOISE = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photograph", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--minimum-size", type=int, default=21, help="smallest size of the kernel in pixels")
    parser.add_argument("--maximum-size", type=int, default=27, help="largest size of the kernel in pixels")
    arguments = parser.parse_args()

    generator = torch.Generator().manual_seed(arguments.seed)
    sizes = BlurKernelConfig(minimum_size=arguments.minimum_size, maximum_size=arguments.maximum_size)
    kernel = sample_blur_kernels(1, sizes, generator=generator)
    pixels = unit_range(read_photograph(arguments.photograph).pixels)[None]
    degradation = DegradationConfig(noise=(NOISE, NOISE))
    blurred = degrade(pixels, kernel, degradation, generator=generator)
    border = sizes.canvas // 2
    sharp = pixels[..., border:-border, border:-border]

    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_photograph(arguments.folder / "blurred.jpg", Photograph(blurred[0]))
    write_photograph(arguments.folder / "sharp.jpg", Photograph(sharp[0]))
    write_kernel(arguments.folder / "kernel.png", kernel[0])


if __name__ == "__main__":
    main()
