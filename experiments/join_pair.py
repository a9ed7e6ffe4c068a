"""Write one weights file with the analysis of one pair and the synthesis of another.

    python experiments/join_pair.py ANALYSIS.safetensors SYNTHESIS.safetensors PAIR.safetensors

They are trained separately: `asnet train analysis` and `asnet train synthesis`. Only the configuration and
the tensors of the synthesis are read from the second file, which also determines the pair's name.
"""

import argparse
from pathlib import Path

from asnet.errors import AsnetError
from asnet.networks import ASNetConfig, DeblurNetwork, load_networks, read_header, save_weights
from asnet.networks.weights import load_weights_into


def join(analysis: Path, synthesis: Path, output: Path) -> None:
    """Write the pair; its header names the data and the revisions of both parts."""
    first, second = read_header(analysis), read_header(synthesis)
    if not isinstance(second.configuration, ASNetConfig):
        raise AsnetError(f"{synthesis} holds no pair of networks")
    source = load_networks(analysis, DeblurNetwork)
    config = ASNetConfig(source.config.analysis, second.configuration.synthesis, second.configuration.name)
    network = DeblurNetwork(config)
    network.analysis.load_state_dict(source.analysis.state_dict())
    load_weights_into(network.synthesis, synthesis, prefix="synthesis.")
    save_weights(
        output,
        network,
        training_data=", ".join(dict.fromkeys((first.training_data, second.training_data))),
        revision=f"analysis: {part_of(first.revision, 'analysis')}; "
        f"synthesis: {part_of(second.revision, 'synthesis')}",
    )


def part_of(revision: str, name: str) -> str:
    """Return what a revision says of one network; files of this script name both."""
    parts = dict(part.split(": ", 1) for part in revision.split("; ") if ": " in part)
    return parts.get(name, revision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("analysis", type=Path, help="weights file of a pair, for its analysis")
    parser.add_argument("synthesis", type=Path, help="weights file of a pair, for its synthesis")
    parser.add_argument("output", type=Path, help="weights file to write")
    options = parser.parse_args()
    try:
        join(options.analysis, options.synthesis, options.output)
    except AsnetError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
