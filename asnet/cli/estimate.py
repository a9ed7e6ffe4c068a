"""``asnet estimate``: photographs in, blur kernels out."""

import argparse
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from asnet.cli.batch import add_common_options, load_deblurrer, not_done, say, work_through
from asnet.cli.destinations import Inputs, check_absent, check_outputs, make_folder
from asnet.cli.streams import is_standard, read_source, write_stream
from asnet.deblurring.deblurrer import Deblurrer
from asnet.imaging import KERNEL_SUFFIXES, check_suffix, kernel_picture, write_kernel

_EPILOG = """examples:
  asnet estimate photo.jpg -o kernel.png
  asnet estimate photo.jpg -o kernel.npy
  asnet estimate holiday/ -o kernels/

A .png has 16 bits, with the largest value white; a .npy has the exact values, which sum to 1."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the subcommand and add its options."""
    parser.description = "Estimate the blur kernel of photographs without deblurring them."
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_common_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Estimate the kernels; 0, or 1 if one failed."""
    inputs = Inputs.find(arguments.photographs, recursive=arguments.recursive, outputs=[arguments.output])
    for note in inputs.notes:
        say(f"asnet: note: {note}")
    outputs = inputs.outputs(arguments.output, lambda path, stem: f"{stem}-kernel.png")
    check_outputs(inputs, outputs)
    pairs = list(zip(inputs.photographs, outputs, strict=True))
    pairs = not_done(pairs, lambda pair: [pair[1]], skip_existing=arguments.skip_existing)
    deblurrer = load_deblurrer(arguments)
    return work_through(
        pairs,
        lambda pair: _estimate(*pair, deblurrer, arguments),
        lambda pair: pair[0],
        "estimating",
        jobs=arguments.jobs,
    )


def _estimate(path: Path, output: Path, deblurrer: Deblurrer, arguments: argparse.Namespace) -> Sequence[str]:
    if not is_standard(output):
        check_suffix(output, KERNEL_SUFFIXES)
    check_absent([output], overwrite=arguments.overwrite)
    photograph, _ = read_source(path, arguments.max_pixels)
    kernel = deblurrer.estimate_kernel(
        photograph.pixels, scale=arguments.scale, region=arguments.region, alpha=photograph.alpha
    )
    if is_standard(output):
        buffer = BytesIO()
        kernel_picture(kernel, bits=16).save(buffer, "PNG")
        write_stream(buffer.getbuffer())
    else:
        make_folder(output.parent)
        write_kernel(output, kernel)
    return photograph.notes
