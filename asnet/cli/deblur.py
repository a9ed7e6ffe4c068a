"""``asnet deblur``: photographs in, sharp photographs out."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from asnet.cli.batch import (
    add_common_options,
    load_deblurrer,
    not_done,
    option_value,
    say,
    share,
    work_through,
)
from asnet.cli.destinations import Destination, Inputs, check_absent, check_outputs, make_folder
from asnet.cli.streams import (
    is_standard,
    read_source,
    write_photograph_to_stream,
    write_stream,
)
from asnet.deblurring.comparison import comparison_picture
from asnet.deblurring.deblurrer import Deblurrer, remarks
from asnet.deblurring.line_kernels import parse_line
from asnet.errors import InputError
from asnet.imaging import (
    KERNEL_SUFFIXES,
    PHOTOGRAPH_SUFFIXES,
    check_fits,
    check_suffix,
    read_kernel,
    write_bytes,
    write_kernel,
    write_photograph,
    write_picture,
)

_EPILOG = """examples:
  asnet deblur photo.jpg -o sharp.jpg
  asnet deblur photo.jpg -o sharp.png --save-kernel kernel.png --compare compared.png
  asnet deblur photo.jpg -o sharp.jpg --kernel kernel.png
  asnet deblur photo.jpg -o sharp.jpg --region 400,300,1200,900 --strength 0.8
  asnet deblur holiday/ -o sharp/ --recursive --skip-existing
  asnet deblur - -o - < photo.jpg > sharp.jpg

Colour profile, EXIF, XMP, IPTC, transparency and 16 bits are kept where the format supports them, and a note
names what is lost; the orientation tag is applied. HEIC and AVIF files in a folder become JPEG files.
Uniform bars and frames, and transparent pixels, are ignored and left unchanged.
A photograph that is sharp, or whose blur cannot be estimated reliably, is left unchanged (byte for byte if
the format stays the same), and a note says so; --scale deblurs it anyway.
Inputs are never overwritten."""


@dataclass(frozen=True)
class Task:
    """One photograph and the files to write for it."""

    photograph: Path
    result: Path
    kernel: Path | None
    comparison: Path | None

    @property
    def outputs(self) -> list[Path]:
        """All files to write."""
        return [path for path in (self.result, self.kernel, self.comparison) if path is not None]


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the subcommand and add its options."""
    parser.description = (
        "Remove the motion blur of photographs: JPEG, PNG, TIFF, WebP, HEIC or AVIF, from 16x16 pixels up."
    )
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_common_options(parser)
    known = parser.add_mutually_exclusive_group()
    known.add_argument(
        "--kernel",
        type=Path,
        metavar="FILE",
        help="remove this blur kernel (.npy, or an image of it) instead of estimating one; it is trusted "
        "more than an estimate",
    )
    known.add_argument(
        "--line",
        type=option_value(parse_line),
        metavar="LENGTH,ANGLE",
        help="remove straight motion blur of this length in pixels and angle in degrees, counter-clockwise "
        "from the horizontal, instead of estimating the kernel",
    )
    parser.add_argument(
        "--strength",
        type=share,
        default=1.0,
        metavar="X",
        help="weight of the restored image in the blend with the input, 0 to 1 (default: 1)",
    )
    parser.add_argument(
        "--denoise",
        type=share,
        default=0.0,
        metavar="X",
        help="noise suppression, at the cost of detail, 0 to 1 (default: 0)",
    )
    parser.add_argument(
        "--save-kernel",
        type=Destination.parse,
        metavar="OUT",
        help="write the blur kernel: .png, or .npy for its exact values; a folder for several photographs",
    )
    parser.add_argument(
        "--compare",
        type=Destination.parse,
        metavar="OUT",
        help="write one picture of photograph, result and blur kernel; a folder for several photographs",
    )


def run(arguments: argparse.Namespace) -> int:
    """Deblur the photographs; 0, or 1 if one failed."""
    tasks = _plan(arguments)
    kernel = arguments.line if arguments.kernel is None else read_kernel(arguments.kernel)
    if kernel is not None and arguments.region is not None:
        raise InputError("--region cannot be combined with a given blur kernel")
    deblurrer = load_deblurrer(arguments)
    return work_through(
        tasks,
        lambda task: _deblur(task, deblurrer, kernel, arguments),
        lambda task: task.photograph,
        "deblurring",
        jobs=arguments.jobs,
    )


def _plan(arguments: argparse.Namespace) -> list[Task]:
    destinations = [arguments.output, arguments.save_kernel, arguments.compare]
    given = [destination for destination in destinations if destination is not None]
    if any(is_standard(destination.path) for destination in given[1:]):
        raise InputError("only the deblurred photograph can go to standard output")
    inputs = Inputs.find(arguments.photographs, recursive=arguments.recursive, outputs=given)
    for note in inputs.notes:
        say(f"asnet: note: {note}")
    count = len(inputs.photographs)
    results = inputs.outputs(arguments.output, _result_name)
    kernels: Sequence[Path | None] = [None] * count
    if arguments.save_kernel is not None:
        kernels = inputs.outputs(arguments.save_kernel, lambda path, stem: f"{stem}-kernel.png")
    comparisons: Sequence[Path | None] = [None] * count
    if arguments.compare is not None:
        comparisons = inputs.outputs(arguments.compare, lambda path, stem: f"{stem}-compared.png")
    tasks = [Task(*files) for files in zip(inputs.photographs, results, kernels, comparisons, strict=True)]
    check_outputs(inputs, [output for task in tasks for output in task.outputs])
    return not_done(tasks, lambda task: task.outputs, skip_existing=arguments.skip_existing)


def _result_name(path: Path, stem: str) -> str:
    """File name of a result in a folder: that of the photograph, with .jpg if its format is not written."""
    return f"{stem}{path.suffix if path.suffix.lower() in PHOTOGRAPH_SUFFIXES else '.jpg'}"


def _deblur(
    task: Task, deblurrer: Deblurrer, kernel: Tensor | None, arguments: argparse.Namespace
) -> list[str]:
    """Deblur one photograph, write its files, and return notes for the user."""
    if not is_standard(task.result):
        check_suffix(task.result, PHOTOGRAPH_SUFFIXES)
    if task.kernel is not None:
        check_suffix(task.kernel, KERNEL_SUFFIXES)
    if task.comparison is not None:
        check_suffix(task.comparison, PHOTOGRAPH_SUFFIXES)
    # With --skip-existing, an interrupted run may have left some of a photograph's outputs.
    check_absent(task.outputs, overwrite=arguments.overwrite or arguments.skip_existing)
    photograph, data = read_source(task.photograph, arguments.max_pixels)
    if not is_standard(task.result):
        check_fits(task.result, photograph)
    deblurred = deblurrer.deblur(
        photograph.pixels,
        kernel,
        scale=arguments.scale,
        region=arguments.region,
        strength=arguments.strength,
        denoise=arguments.denoise,
        alpha=photograph.alpha,
    )
    notes = [*photograph.notes, *remarks(deblurred, task.photograph, arguments.scale)]
    for output in task.outputs:
        if not is_standard(output):
            make_folder(output.parent)
    result_format = (
        photograph.own_format if is_standard(task.result) else PHOTOGRAPH_SUFFIXES[task.result.suffix.lower()]
    )
    if deblurred.status != "blurred" and result_format == photograph.format:
        # Copied byte for byte: nothing is lost, so there is nothing to note.
        notes = [note for note in notes if note not in photograph.notes]
        data = task.photograph.read_bytes() if data is None else data
        if is_standard(task.result):
            write_stream(data)
        else:
            write_bytes(task.result, data)
    elif is_standard(task.result):
        notes += write_photograph_to_stream(replace(photograph, pixels=deblurred.image))
    else:
        notes += write_photograph(task.result, replace(photograph, pixels=deblurred.image))
    if task.kernel is not None:
        write_kernel(task.kernel, deblurred.kernel)
    if task.comparison is not None:
        compared = comparison_picture(photograph.pixels, deblurred.image, deblurred.kernel)
        write_picture(task.comparison, compared)
    return notes
