"""``asnet``: parses the command line, runs a subcommand, and prints errors as one sentence."""

import argparse
import ctypes
import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from importlib import import_module

from asnet import __version__
from asnet.cli.messages import keep_messages_apart, printable
from asnet.errors import AsnetError

_EXAMPLES = """examples:
  asnet deblur photo.jpg -o sharp.jpg
  asnet deblur holiday/ -o sharp/ --compare compared/
  asnet estimate photo.jpg -o kernel.png
  asnet serve
  asnet sample-kernels 36 -o kernels.png --seed 1
  asnet info

`asnet SUBCOMMAND --help` shows the options of a subcommand."""

#: Subcommands and their lines in `asnet --help`. Each is a module of that name with `configure(parser)`,
#: which adds its options, and `run(arguments)`, which returns the exit code.
SUBCOMMANDS = {
    "deblur": "remove the motion blur of photographs",
    "estimate": "estimate the blur kernels of photographs",
    "serve": "serve a web page and an HTTP API",
    "evaluate": "score results on a benchmark",
    "sample-kernels": "sample random blur kernels",
    "train": "train the networks on a folder of photographs",
    "bundle": "join a size classifier and the pairs of its classes",
    "import-weights": "convert the Keras weights of the paper's released code",
    "info": "print versions, devices, models and the implementation of each operator",
}

#: Exit code after Ctrl-C, as a shell reports SIGINT.
INTERRUPTED = 130

#: glibc's M_MMAP_THRESHOLD, its value, larger than the blocks of the analysis, and its largest one.
_M_MMAP_THRESHOLD, _LARGE_BLOCK, _LARGEST_BLOCK = -3, 16 * 2**20, 32 * 2**20
#: glibc's M_TRIM_THRESHOLD, its default and its largest value.
_M_TRIM_THRESHOLD, _SOON, _NEVER = -1, 128 * 2**10, 2**31 - 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; that of the process by default.

    Returns
    -------
    int
        0 on success, 1 on error, 130 if interrupted. Wrong usage exits with 2.
    """
    if arguments is None:
        keep_messages_apart()
    if "torch" not in sys.modules:
        set_wait_policy(os.environ)
    give_memory_back()
    try:
        words = sys.argv[1:] if arguments is None else arguments
        parsed = _build_parser(words).parse_args(words)
        result: int = parsed.run(parsed)
        return result
    except AsnetError as error:
        print(printable(f"asnet: {error}"), file=sys.stderr)
        return 1
    except OSError as error:
        # System errors not reported elsewhere: unreadable folders, a full disk.
        place = f"cannot reach {error.filename}: " if error.filename else ""
        print(printable(f"asnet: {place}{error.strerror or error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("asnet: interrupted", file=sys.stderr)
        return INTERRUPTED


def set_wait_policy(environment: MutableMapping[str, str]) -> None:
    """Make waiting OpenMP threads sleep rather than spin, unless the environment decides.

    By default OpenMP threads spin for milliseconds. If another process is computing, each parallel region
    then waits for a thread that has spent its time slice spinning, and a deblurring of 1 s takes minutes.
    OpenMP reads the environment only once, when torch loads it.
    """
    if "GOMP_SPINCOUNT" not in environment:
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def give_memory_back() -> None:
    """Return freed blocks of _LARGE_BLOCK bytes or more to the system (glibc only).

    Otherwise glibc keeps blocks of up to 32 MiB, some hundred megabytes for a large photograph.
    """
    _set_allocator({_M_MMAP_THRESHOLD: _LARGE_BLOCK, _M_TRIM_THRESHOLD: _SOON})


def keep_memory() -> None:
    """Keep freed blocks of up to 32 MiB, the most that glibc allows, for the next ones.

    A training step allocates what the one before freed, and the system zeroes every page that it gives anew:
    with `compact` that is a fifth of the step.
    """
    _set_allocator({_M_MMAP_THRESHOLD: _LARGEST_BLOCK, _M_TRIM_THRESHOLD: _NEVER})


def _set_allocator(values: Mapping[int, int]) -> None:
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "mallopt"):
        for parameter, value in values.items():
            allocator.mallopt(parameter, value)


def _build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Make the parser; only the subcommand that the arguments name is loaded, and torch with it."""
    parser = argparse.ArgumentParser(
        prog="asnet",
        description="Remove motion blur from photographs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"asnet {__version__}")
    subparsers = parser.add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    # No option in front of the subcommand takes a value.
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, summary in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary)
        if name == chosen:
            subcommand = import_module(f"asnet.cli.{name.replace('-', '_')}")
            subcommand.configure(subparser)
            subparser.set_defaults(run=subcommand.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
