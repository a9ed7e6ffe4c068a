"""``asnet estimate``: photographs in, blur kernels out."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from asnet.cli.batch import add_common_options, load_deblurrer, work_through
from asnet.cli.destinations import Inputs, check_absent, check_outputs, make_folder
from asnet.deblurrer import Deblurrer
from asnet.imaging import KERNEL_SUFFIXES, check_suffix, read_photograph, write_kernel

_EPILOG = """examples:
  asnet estimate photo.jpg -o kernel.png
  asnet estimate photo.jpg -o kernel.npy
  asnet estimate holiday/ -o kernels/

A .png holds the kernel with 16 bits, its largest value white; a .npy its exact values, which sum to 1."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "estimate",
        help="estimate the blur kernels of photographs",
        description="Estimate the blur kernel of photographs without deblurring them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Estimate the kernels; 0, or 1 if one could not be done."""
    inputs = Inputs.find(arguments.photographs)
    outputs = inputs.outputs(arguments.output, lambda path: f"{path.stem}-kernel.png")
    check_outputs(inputs, outputs)
    deblurrer = load_deblurrer(arguments)
    pairs = list(zip(inputs.photographs, outputs, strict=True))
    return work_through(pairs, lambda pair: _estimate(*pair, deblurrer, arguments), "estimating")


def _estimate(path: Path, output: Path, deblurrer: Deblurrer, arguments: argparse.Namespace) -> Sequence[str]:
    check_suffix(output, KERNEL_SUFFIXES)
    check_absent([output], overwrite=arguments.overwrite)
    photograph = read_photograph(path)
    kernel = deblurrer.estimate_kernel(
        photograph.pixels, scale=arguments.scale, region=arguments.region, alpha=photograph.alpha
    )
    make_folder(output.parent)
    write_kernel(output, kernel)
    return photograph.notes
