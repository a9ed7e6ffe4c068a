"""``asnet info``: what is installed, what was built and why, and what comes with it."""

import argparse

import numpy
import PIL

from asnet.deblurrer import MODELS_FOLDER
from asnet.networks import read_header
from asnet.ops import _extension


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "info",
        help="print versions, devices, models and the path of each operator",
        description="Print versions, what was built and why, devices, models and the path of each operator.",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the report as aligned lines."""
    report = {**_extension.describe(), "numpy": numpy.__version__, "Pillow": PIL.__version__}
    for path in sorted(MODELS_FOLDER.glob("*.safetensors")):
        header = read_header(path)
        report[f"model {path.stem}"] = (
            f"configuration {header.configuration.name}, trained on {header.training_data}, {header.revision}"
        )
    width = max(map(len, report))
    for label, words in report.items():
        print(f"{label:{width}}  {words}")
    return 0
