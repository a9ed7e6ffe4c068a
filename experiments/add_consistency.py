"""Add to a weights file of `compact` the last deconvolution, by which results fit the photograph.

    python experiments/add_consistency.py OLD.safetensors NEW.safetensors

Its damping starts at what suits the mean photograph with a known kernel; training fits it to the kernel.
"""

import argparse
import dataclasses
from pathlib import Path

from asnet.errors import AsnetError
from asnet.networks import ASNetConfig, DeblurNetwork, load_networks, read_header, save_weights


def extend(old: Path, new: Path) -> None:
    """Write the extended network; its header names the revision of the old one."""
    network, header = load_networks(old, DeblurNetwork), read_header(old)
    if network.config.synthesis.consistency:
        raise AsnetError(f"{old} has that deconvolution already")
    synthesis = dataclasses.replace(network.config.synthesis, consistency=True)
    extended = DeblurNetwork(ASNetConfig(network.config.analysis, synthesis, network.config.name))
    extended.load_state_dict(extended.state_dict() | network.state_dict())
    save_weights(new, extended, training_data=header.training_data, revision=f"{header.revision}; extended")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="weights file of compact")
    parser.add_argument("new", type=Path, help="weights file to write")
    options = parser.parse_args()
    try:
        extend(options.old, options.new)
    except AsnetError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
