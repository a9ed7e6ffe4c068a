"""``asnet sample-kernels``: random blur kernels as used in training."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch

from asnet.cli.destinations import Destination, check_absent, make_folder
from asnet.data import KERNEL_CLASSES, BlurKernelConfig, sample_blur_kernels
from asnet.errors import InputError
from asnet.imaging import (
    KERNEL_SUFFIXES,
    check_suffix,
    kernel_sheet,
    write_atomically,
    write_kernel,
    write_picture,
)

_EPILOG = """examples:
  asnet sample-kernels 36 -o kernels.png --seed 1          one picture of all of them
  asnet sample-kernels 1000 -o kernels.npy --canvas 85     one array (N, 85, 85)
  asnet sample-kernels 20 -o kernels/ --size-class 2       a folder with a .png for each"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the subcommand and add its options."""
    classes = ", ".join(f"{index}: {first} to {last}" for index, (first, last) in enumerate(KERNEL_CLASSES))
    parser.description = "Sample random motion-blur kernels. The same seed gives the same kernels."
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("count", type=int, metavar="N", help="number of kernels")
    parser.add_argument(
        "-o",
        "--output",
        type=Destination.parse,
        required=True,
        metavar="OUT",
        help="a .png for one picture of all, a .npy for an array, or a folder for a .png of each",
    )
    parser.add_argument(
        "--size-class",
        type=int,
        choices=range(len(KERNEL_CLASSES)),
        help=f"the paper's classes of sizes in pixels ({classes})",
    )
    parser.add_argument(
        "--canvas",
        type=int,
        help="side of the grid in pixels, odd (default: 31, or the class's largest size)",
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist already")


def run(arguments: argparse.Namespace) -> int:
    """Sample and write the kernels."""
    if arguments.count < 1:
        raise InputError(f"the number of blur kernels must be at least 1, got {arguments.count}")
    if not 0 <= arguments.seed < 2**63:
        raise InputError(f"the seed must be from 0 to 2^63 - 1, got {arguments.seed}")
    if arguments.size_class is not None:
        config = BlurKernelConfig.of_class(arguments.size_class, arguments.canvas)
    elif arguments.canvas is not None:
        config = BlurKernelConfig(canvas=arguments.canvas)
    else:
        config = BlurKernelConfig()
    outputs = _outputs(arguments.output, arguments.count)
    check_absent(outputs, overwrite=arguments.overwrite)
    generator = torch.Generator().manual_seed(arguments.seed)
    kernels = sample_blur_kernels(arguments.count, config, generator=generator)
    make_folder(outputs[0].parent)
    if arguments.output.is_folder:
        for output, kernel in zip(outputs, kernels, strict=True):
            write_kernel(output, kernel)
    elif outputs[0].suffix.lower() == ".npy":
        with write_atomically(outputs[0]) as file:
            numpy.save(file, kernels.numpy(), allow_pickle=False)
    else:
        write_picture(outputs[0], kernel_sheet(kernels))
    return 0


def _outputs(destination: Destination, count: int) -> Sequence[Path]:
    if destination.is_folder:
        digits = len(str(count - 1))
        return [destination.path / f"kernel-{index:0{digits}}.png" for index in range(count)]
    check_suffix(destination.path, KERNEL_SUFFIXES)
    return [destination.path]
