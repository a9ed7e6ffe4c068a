"""Working through photographs: what `deblur` and `estimate` have in common."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from tqdm import tqdm

from asnet.cli.destinations import Destination
from asnet.deblurrer import DTYPES, Deblurrer, Scale
from asnet.errors import AsnetError, InputError
from asnet.imaging import Region

Item = TypeVar("Item")
Value = TypeVar("Value")


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the photographs, the output, and the options of the model and of where it computes."""
    parser.add_argument(
        "photographs", nargs="+", type=Path, metavar="PHOTO", help="photographs, or folders of them"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Destination.parse,
        required=True,
        metavar="OUT",
        help="a file for one photograph, a folder for several",
    )
    add_model_options(parser)
    add_scale_option(parser)
    parser.add_argument(
        "--region",
        type=option_value(Region.parse),
        metavar="L,T,R,B",
        help="estimate the blur kernel from the pixels from left L and top T to before right R and bottom B",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist already")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the model and of how and where it computes."""
    parser.add_argument(
        "--model",
        default="compact",
        help="a model that comes with asnet, or a weights file (default: compact)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--dtype",
        choices=list(DTYPES),
        default="float32",
        help="type in which the synthesis network computes (default: float32)",
    )
    parser.add_argument(
        "--tile-size",
        type=whole_number,
        metavar="PIXELS",
        help="largest side of what is deblurred at once; smaller takes less memory",
    )


def add_scale_option(parser: argparse.ArgumentParser) -> None:
    """Add the option of the scale at which photographs are deblurred."""
    parser.add_argument(
        "--scale",
        type=_scale,
        default="auto",
        metavar="N",
        help="work on the photograph downscaled by N, for a blur larger than the model's grid; "
        "auto finds out whether that is needed (default: auto)",
    )


def load_deblurrer(arguments: argparse.Namespace) -> Deblurrer:
    """Load the model that the options name."""
    return Deblurrer.from_pretrained(
        arguments.model, device=arguments.device, dtype=arguments.dtype, tile_size=arguments.tile_size
    )


def work_through(items: Sequence[Item], process: Callable[[Item], Sequence[str]], verb: str) -> int:
    """Process items in turn, with a progress bar for several; an error ends its own item alone.

    Parameters
    ----------
    items : sequence
        What to process.
    process : callable
        Processes one item and returns what is to be said about it.
    verb : str
        What the progress bar calls it.

    Returns
    -------
    int
        0, or 1 if an item failed.
    """
    failed = 0
    with tqdm(items, desc=verb, unit="photo", disable=len(items) < 2, file=sys.stderr) as progress:
        for item in progress:
            try:
                for note in process(item):
                    say(f"asnet: note: {note}")
            except AsnetError as error:
                failed += 1
                say(f"asnet: {error}")
            except (MemoryError, torch.OutOfMemoryError):
                failed += 1
                say("asnet: there is not enough memory for this photograph; try a smaller --tile-size")
    if failed and len(items) > 1:
        say(f"asnet: {failed} of {len(items)} photographs could not be done")
    return 1 if failed else 0


def say(message: str) -> None:
    """Print above the progress bar, if there is one."""
    tqdm.write(message, file=sys.stderr)


def whole_number(text: str) -> int:
    """Take the value of an option that is a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return int(text)


def share(text: str) -> float:
    """Take the value of an option that is a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def option_value(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """Return `parse` with its `InputError` as argparse wants an option's error."""

    def parse_option(text: str) -> Value:
        try:
            return parse(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_option


def _scale(text: str) -> Scale:
    return "auto" if text == "auto" else whole_number(text)
