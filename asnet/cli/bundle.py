"""``asnet bundle``: a size classifier and the pairs of its classes in one weights file."""

import argparse
from pathlib import Path

from asnet.cli.destinations import Inputs, check_absent, check_outputs, make_folder
from asnet.networks import (
    DeblurNetwork,
    ScaleOptimisedNetworks,
    SizeClassifier,
    load_networks,
    read_header,
    save_weights,
)

_EPILOG = """example:
  asnet bundle classifier.safetensors scale-31.safetensors scale-61.safetensors scale-85.safetensors \\
      -o scale-optimised.safetensors
  asnet deblur photo.jpg -o sharp.jpg --model scale-optimised.safetensors

docs/training.md describes the training of the parts."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the subcommand and add its options."""
    parser.description = "Join a size classifier and the pairs of its classes in one weights file."
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "classifier", type=Path, metavar="CLASSIFIER", help="weights file of `asnet train classifier`"
    )
    parser.add_argument(
        "pairs", type=Path, nargs="+", metavar="PAIR", help="weights of a pair for each class, smallest first"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the weights file to write"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists already")


def run(arguments: argparse.Namespace) -> int:
    """Join the networks."""
    paths = [arguments.classifier, *arguments.pairs]
    check_outputs(Inputs.of_files(paths), [arguments.output])
    check_absent([arguments.output], overwrite=arguments.overwrite)
    networks = ScaleOptimisedNetworks.join(
        load_networks(arguments.classifier, SizeClassifier),
        [load_networks(path, DeblurNetwork) for path in arguments.pairs],
    )
    headers = [read_header(path) for path in paths]
    sizes = networks.config.classifier.class_sizes
    parts = ["classifier", *(f"kernels of up to {size} pixels" for size in sizes)]
    make_folder(arguments.output.parent)
    save_weights(
        arguments.output,
        networks,
        # Each name once, in the order of the files.
        training_data=", ".join(dict.fromkeys(header.training_data for header in headers)),
        revision="; ".join(f"{part}: {header.revision}" for part, header in zip(parts, headers, strict=True)),
    )
    return 0
