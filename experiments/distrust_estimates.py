"""Add to a weights file of `compact` the input that tells the synthesis whether its kernel is an estimate.

    python experiments/distrust_estimates.py OLD.safetensors NEW.safetensors

The weights of that input are 0, so before training the new network is equivalent to the old one.
"""

import argparse
import dataclasses
from pathlib import Path

from torch.nn import functional as F

from asnet.errors import AsnetError
from asnet.networks import ASNetConfig, DeblurNetwork, load_networks, read_header, save_weights


def widen(old: Path, new: Path) -> None:
    """Write the widened network; its header names the revision of the old one."""
    network, header = load_networks(old, DeblurNetwork), read_header(old)
    if network.config.synthesis.distrusts_estimates:
        raise AsnetError(f"{old} has that input already")
    synthesis = dataclasses.replace(network.config.synthesis, distrusts_estimates=True)
    widened = DeblurNetwork(ASNetConfig(network.config.analysis, synthesis, network.config.name))
    state = network.state_dict()
    for name, value in widened.state_dict().items():
        if value.shape != state[name].shape:
            state[name] = F.pad(state[name], (0, 1))
    widened.load_state_dict(state)
    save_weights(new, widened, training_data=header.training_data, revision=f"{header.revision}; widened")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="weights file of compact")
    parser.add_argument("new", type=Path, help="weights file to write")
    options = parser.parse_args()
    try:
        widen(options.old, options.new)
    except AsnetError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
