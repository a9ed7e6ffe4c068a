"""``asnet import-weights``: the weights of the paper's released code as a weights file of asnet."""

import argparse
from pathlib import Path
from typing import get_args

from asnet.cli.destinations import Inputs, check_absent, check_outputs, make_folder
from asnet.networks.config import Boundary
from asnet.networks.keras_weights import network_from_keras
from asnet.networks.weights import save_weights

_EPILOG = """example:
  asnet import-weights analysis_weights.h5 synthesis_weights.h5 -o released.safetensors
  asnet deblur photo.jpg -o sharp.jpg --model released.safetensors

The sizes of both networks are derived from their arrays.
Reading HDF5 needs h5py: pip install 'asnet[import-weights]'."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the subcommand and add its options."""
    parser.description = "Convert the paper's released Keras weights (HDF5) to a weights file of asnet."
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "analysis", type=Path, metavar="ANALYSIS", help="weights of the analysis network, .h5"
    )
    parser.add_argument(
        "synthesis", type=Path, metavar="SYNTHESIS", help="weights of the synthesis network, .h5"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the weights file to write"
    )
    parser.add_argument(
        "--boundary",
        choices=get_args(Boundary),
        default="circular",
        help="boundary of the correlation: circular as in the released code, or zero (default: circular)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists already")


def run(arguments: argparse.Namespace) -> int:
    """Convert the weights."""
    check_outputs(Inputs.of_files([arguments.analysis, arguments.synthesis]), [arguments.output])
    check_absent([arguments.output], overwrite=arguments.overwrite)
    network = network_from_keras(arguments.analysis, arguments.synthesis, boundary=arguments.boundary)
    make_folder(arguments.output.parent)
    save_weights(
        arguments.output,
        network,
        training_data="the training data of the released code",
        revision=f"imported from {arguments.analysis.name} and {arguments.synthesis.name}",
    )
    return 0
