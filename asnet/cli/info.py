"""``asnet info``: versions, build configuration, devices, models and operators."""

import argparse

import numpy
import PIL

from asnet.networks import read_header
from asnet.ops import _extension
from asnet.pretrained import MODELS_FOLDER


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the subcommand and add its options."""
    parser.description = (
        "Print versions, build configuration, devices, models and the implementation of each operator."
    )


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
