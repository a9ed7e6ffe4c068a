"""What the scripts share that add a feature of the synthesis to a weights file of `compact`."""

import argparse
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch.nn import functional as F

from asnet.errors import AsnetError
from asnet.networks import ASNetConfig, DeblurNetwork, load_networks, read_header, save_weights


def extend(old: Path, new: Path, feature: str, remark: str) -> None:
    """Write the network with a field of its `SynthesisConfig` turned on.

    Inputs that a layer had not before have weights of 0, new layers their initial weights. The header names
    the revision of the old network, with the remark.
    """
    network, header = load_networks(old, DeblurNetwork), read_header(old)
    if getattr(network.config.synthesis, feature):
        raise AsnetError(f"{old} has {feature} already")
    turned_on: dict[str, Any] = {feature: True}
    synthesis = dataclasses.replace(network.config.synthesis, **turned_on)
    extended = DeblurNetwork(ASNetConfig(network.config.analysis, synthesis, network.config.name))
    state = extended.state_dict()
    for name, value in network.state_dict().items():
        added = state[name].shape[-1] - value.shape[-1] if value.dim() else 0
        state[name] = F.pad(value, (0, added)) if added else value
    extended.load_state_dict(state)
    save_weights(new, extended, training_data=header.training_data, revision=f"{header.revision}; {remark}")


def run(description: str, feature: str, remark: str) -> None:
    """Read the two paths of the command line and extend one into the other."""
    run_script(description, partial(extend, feature=feature, remark=remark))


def run_script(description: str, write: Callable[[Path, Path], None]) -> None:
    """Read the two paths of the command line and write the second from the first."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("old", type=Path, help="weights file of compact")
    parser.add_argument("new", type=Path, help="weights file to write")
    options = parser.parse_args()
    try:
        write(options.old, options.new)
    except AsnetError as error:
        parser.exit(1, f"{error}\n")
