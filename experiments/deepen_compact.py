"""Add to a weights file of `compact` a coarser level of the U-Net.

    python experiments/deepen_compact.py OLD.safetensors NEW.safetensors

The new network computes the same as the old one until it is trained: what comes up from the new level has
weights of 0, and the skip connection of the level above is the identity.
"""

from dataclasses import replace
from pathlib import Path

import torch
from extended_weights import run_script

from asnet.errors import AsnetError
from asnet.networks import ASNetConfig, DeblurNetwork, load_networks, read_header, save_weights
from asnet.networks.guidance import GuidingUnit
from asnet.networks.synthesis_levels import DecoderLevel


def deepened(network: DeblurNetwork) -> DeblurNetwork:
    """Return the pair with one more level of the U-Net, as wide as the coarsest of `compact`."""
    config = network.config
    channels = (*config.synthesis.channels, ASNetConfig.compact().synthesis.channels[-1])
    deeper = DeblurNetwork(replace(config, synthesis=replace(config.synthesis, channels=channels)))
    added = deeper.synthesis.decoder[-1]
    assert isinstance(added, DecoderLevel)
    last = added.block.convolutions[-1]
    with torch.no_grad():
        of_raised, of_skip = added.merge.weight[:, :, 0, 0].chunk(2, dim=1)
        of_raised.zero_()
        of_skip.copy_(torch.eye(len(of_skip)))
        assert isinstance(added.guide, GuidingUnit)
        for values in (added.merge.bias, *last.parameters(), *added.guide.shifts[-1].parameters()):
            assert values is not None
            values.zero_()
    deeper.load_state_dict(deeper.state_dict() | network.state_dict())
    return deeper


def deepen(old: Path, new: Path) -> None:
    """Write the network with the channels that `compact` has now."""
    network, header = load_networks(old, DeblurNetwork), read_header(old)
    channels = ASNetConfig.compact().synthesis.channels[:-1]
    if network.config.synthesis.channels != channels:
        raise AsnetError(
            f"the network to deepen must have the channels {channels}, "
            f"got {network.config.synthesis.channels}"
        )
    torch.manual_seed(0)
    deeper = deepened(network)
    save_weights(new, deeper, training_data=header.training_data, revision=f"{header.revision}; deepened")


if __name__ == "__main__":
    run_script(__doc__.splitlines()[0], deepen)
