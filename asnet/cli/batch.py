"""Batch processing of photographs, shared by `deblur` and `estimate`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from asnet.cli.destinations import Destination, photograph_path
from asnet.cli.messages import printable
from asnet.cli.streams import is_standard
from asnet.deblurring.deblurrer import DTYPES, Deblurrer
from asnet.deblurring.kernel_search import Scale
from asnet.deblurring.regions import Region
from asnet.errors import AsnetError, InputError, is_out_of_memory
from asnet.imaging import MOST_PIXELS

Item = TypeVar("Item")
Value = TypeVar("Value")

#: Memory for one camera photograph being processed, on top of that of the process.
MEMORY_OF_PHOTOGRAPH = 2 * 2**30


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add arguments for photographs, output, model and device."""
    parser.add_argument(
        "photographs",
        nargs="+",
        type=photograph_path,
        metavar="PHOTO",
        help="photographs, folders of them, or - for standard input",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Destination.parse,
        required=True,
        metavar="OUT",
        help="a file for one photograph, or - for standard output; a folder for several",
    )
    add_model_options(parser)
    add_scale_option(parser)
    parser.add_argument(
        "--region",
        type=option_value(Region.parse),
        metavar="L,T,R,B",
        help="estimate the blur kernel from this region (right and bottom exclusive)",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace outputs that exist already")
    existing.add_argument(
        "--skip-existing",
        action="store_true",
        help="skip photographs whose outputs exist, to resume an interrupted run",
    )
    parser.add_argument(
        "--recursive",
        action="store_true",
        help="descend into subfolders and mirror them in the output",
    )
    parser.add_argument(
        "--jobs",
        type=whole_number,
        default=1,
        metavar="N",
        help="process up to N photographs in parallel, as memory allows (default: 1)",
    )
    parser.add_argument(
        "--max-pixels",
        type=whole_number,
        default=MOST_PIXELS,
        metavar="N",
        help=f"refuse photographs of more pixels (default: {MOST_PIXELS})",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add options for model, device, dtype and tile size."""
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
        help="dtype of the synthesis network (default: float32)",
    )
    parser.add_argument(
        "--tile-size",
        type=whole_number,
        metavar="PIXELS",
        help="largest tile side in pixels; smaller tiles take less memory",
    )


def add_scale_option(parser: argparse.ArgumentParser) -> None:
    """Add the option of the scale at which photographs are deblurred."""
    parser.add_argument(
        "--scale",
        type=_scale,
        default="auto",
        metavar="N",
        help="work on the photograph downscaled by N, for a blur larger than the model's grid; "
        "auto decides whether that is needed (default: auto)",
    )


def load_deblurrer(arguments: argparse.Namespace) -> Deblurrer:
    """Load the model that the options name."""
    return Deblurrer.from_pretrained(
        arguments.model, device=arguments.device, dtype=arguments.dtype, tile_size=arguments.tile_size
    )


def not_done(
    items: Sequence[Item], outputs: Callable[[Item], Sequence[Path]], *, skip_existing: bool
) -> list[Item]:
    """Return the items with missing outputs, or all of them, and print how many are skipped."""
    if not skip_existing:
        return list(items)
    missing = [
        item for item in items if not all(is_standard(path) or path.exists() for path in outputs(item))
    ]
    if len(missing) < len(items):
        skipped = len(items) - len(missing)
        say(f"asnet: note: {skipped} of {len(items)} photographs skipped: their outputs exist")
    return missing


def work_through(
    items: Sequence[Item],
    process: Callable[[Item], Sequence[str]],
    name: Callable[[Item], Path],
    verb: str,
    *,
    jobs: int = 1,
) -> int:
    """Process items in turn, with a progress bar for several; an error ends only its own item.

    Parameters
    ----------
    items : sequence
        The items.
    process : callable
        Processes one item and returns notes for the user.
    name : callable
        Returns the photograph of an item, for messages.
    verb : str
        Label of the progress bar.
    jobs : int
        Number to process at a time; fewer if memory is short.

    Returns
    -------
    int
        0, or 1 if an item failed.
    """
    jobs = _affordable_jobs(min(jobs, len(items)))
    with tqdm(total=len(items), desc=verb, unit="photo", disable=len(items) < 2, file=sys.stderr) as progress:
        if jobs > 1:
            failed = _side_by_side(items, process, name, jobs, progress)
        else:
            failed = 0
            for item in items:
                failed += not _processed(item, process, name(item))
                progress.update()
    if failed and len(items) > 1:
        say(f"asnet: {failed} of {len(items)} photographs failed")
    return 1 if failed else 0


def _side_by_side(
    items: Sequence[Item],
    process: Callable[[Item], Sequence[str]],
    name: Callable[[Item], Path],
    jobs: int,
    progress: "tqdm[Any]",
) -> int:
    """Process items in threads, which share the cores, and return how many failed."""
    cores = torch.get_num_threads()
    share = max(1, cores // jobs)
    torch.set_num_threads(share)
    failed = 0
    pool = ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(share,))
    try:
        for done in as_completed([pool.submit(_processed, item, process, name(item)) for item in items]):
            failed += not done.result()
            progress.update()
    finally:
        # After Ctrl-C, running items finish and waiting ones are dropped.
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)
    return failed


def _processed(item: Item, process: Callable[[Item], Sequence[str]], name: Path) -> bool:
    """Process an item, print its notes, and return whether it succeeded."""
    try:
        for note in process(item):
            say(f"asnet: note: {note}")
    except AsnetError as error:
        # Messages of the deblurrer do not name the file.
        say(f"asnet: {error}" if str(name) in str(error) else f"asnet: {name}: {error}")
    except Exception as error:
        if is_out_of_memory(error):
            say(f"asnet: there is not enough memory for {name}; try a smaller --tile-size or --jobs")
        else:
            # A bug in asnet must not stop the rest of a folder.
            reason = " ".join(f"{type(error).__name__} {error}".split())
            say(f"asnet: {name} failed unexpectedly, please report this: {reason}")
    else:
        return True
    return False


def _affordable_jobs(jobs: int) -> int:
    """Return how many photographs fit in memory, and print a note if that is fewer than requested."""
    available = _available_memory()
    if jobs == 1 or available is None:
        return jobs
    affordable = max(1, min(jobs, available // MEMORY_OF_PHOTOGRAPH))
    if affordable < jobs:
        say(f"asnet: note: --jobs {jobs} reduced to {affordable} to fit in memory")
    return affordable


def _available_memory() -> int | None:
    """Available memory in bytes; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(sizes[0]) * 1024 if sizes else None


def say(message: str) -> None:
    """Print above the progress bar, if there is one."""
    tqdm.write(printable(message), file=sys.stderr)


def whole_number(text: str) -> int:
    """Parse an option that is a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return int(text)


def share(text: str) -> float:
    """Parse an option that is a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def option_value(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """Return `parse` with its `InputError` converted to argparse's error."""

    def parse_option(text: str) -> Value:
        try:
            return parse(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_option


def _scale(text: str) -> Scale:
    return "auto" if text == "auto" else whole_number(text)
