"""Write the weighted mean of weights files of one configuration.

    python experiments/average_weights.py MEAN.safetensors 0.5 FIRST.safetensors 0.5 SECOND.safetensors

The mean of weights before and after a short training on harder data keeps most of what each is good at.
"""

import argparse

import torch

from asnet.errors import AsnetError
from asnet.networks import DeblurNetwork, load_networks, read_header, save_weights


def average(output: str, shares: list[float], paths: list[str]) -> None:
    """Write the mean; its header names every file's revision and share."""
    networks = [load_networks(path, DeblurNetwork) for path in paths]
    headers = [read_header(path) for path in paths]
    states = [network.state_dict() for network in networks]
    if any(network.config != networks[0].config for network in networks):
        raise AsnetError("the weights files are not of one configuration")
    weights = torch.tensor(shares) / sum(shares)
    mean = {
        name: torch.stack([share * state[name] for share, state in zip(weights, states, strict=True)]).sum(0)
        for name in states[0]
    }
    networks[0].load_state_dict(mean)
    data = list(dict.fromkeys(header.training_data for header in headers))
    parts = (f"{share:.2f} of ({header.revision})" for share, header in zip(weights, headers, strict=True))
    save_weights(
        output,
        networks[0],
        # One that is part of another's says nothing new.
        training_data=", ".join(
            one for one in data if not any(one != other and one in other for other in data)
        ),
        revision=" + ".join(parts),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="weights file to write")
    parser.add_argument("parts", nargs="+", metavar="SHARE FILE", help="share and weights file, in turn")
    options = parser.parse_args()
    shares, paths = options.parts[::2], options.parts[1::2]
    try:
        if len(shares) != len(paths):
            raise AsnetError("every weights file needs a share before it")
        average(options.output, [float(share) for share in shares], paths)
    except (AsnetError, ValueError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
