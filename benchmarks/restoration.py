"""What a pair of networks restores on validation photographs, blind and with the true kernel, per photograph.

Every photograph is blurred by a kernel of our own sampler and given noise, both from a fixed seed; gains are
in dB of PSNR over the blurred photograph, without any alignment. "Wiener" is the best of the synthesis
network's own Wiener inputs with the true kernel, chosen for each photograph by its PSNR.

    python benchmarks/restoration.py --photographs FOLDER [--model compact]
"""

import argparse
from pathlib import Path

import torch
from measure import save

from asnet.deblurrer import find_weights
from asnet.evaluation.metrics import kernel_similarity, psnr
from asnet.networks.pair import DeblurNetwork
from asnet.networks.weights import load_network
from asnet.networks.wiener import wiener_deconvolution
from asnet.training.configuration import TrainingConfig
from asnet.training.validation import Example, make_examples

NOISE = 0.01


@torch.inference_mode()
def restore(network: DeblurNetwork, example: Example) -> dict[str, float | str]:
    """PSNR in dB of one photograph, blurred and restored in each way, and how well its kernel was found."""
    blurred, sharp, kernel = example.blurred, example.sharp, example.kernel

    def score(image: torch.Tensor) -> float:
        return float(psnr(image.clamp(0, 1), sharp))

    strengths = network.config.synthesis.wiener_strengths
    wiener = max(map(score, wiener_deconvolution(blurred, kernel, strengths).unbind(1)))
    blind = network(blurred)
    return {
        "photograph": example.name,
        "kernel_extent": int((kernel > 0).any(1).sum().maximum((kernel > 0).any(2).sum())),
        "blurred": score(blurred),
        "wiener_true_kernel": wiener,
        "true_kernel": score(network.synthesis(blurred, kernel)),
        "blind": score(blind.image),
        "kernel_similarity": float(kernel_similarity(blind.kernel, kernel)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True, help="folder of sharp photographs")
    parser.add_argument("--model", default="compact", help="name or weights file")
    parser.add_argument("--seed", type=int, default=1, help="of blur kernels and noise")
    options = parser.parse_args()

    network = load_network(find_weights(options.model))
    table = {
        "data": str(options.photographs),
        "validation": str(options.photographs),
        "network": network.config.to_dict(),
        "validation_noise": NOISE,
        "validation_seed": options.seed,
    }
    rows = []
    for example in make_examples(TrainingConfig.from_table("joint", table)):
        row = restore(network, example)
        rows.append(row)
        print(
            "  ".join(
                f"{value:.2f}" if isinstance(value, float) else f"{value!s:>8}" for value in row.values()
            )
        )

    def mean(name: str) -> float:
        return sum(float(row[name]) for row in rows) / len(rows)

    blind_gains = [float(row["blind"]) - float(row["blurred"]) for row in rows]
    summary = {
        "blurred": mean("blurred"),
        "true_kernel_gain_over_wiener": mean("true_kernel") - mean("wiener_true_kernel"),
        "true_kernel_gain": mean("true_kernel") - mean("blurred"),
        "blind_gain": mean("blind") - mean("blurred"),
        "smallest_blind_gain": min(blind_gains),
        "kernel_similarity": mean("kernel_similarity"),
    }
    for name, value in summary.items():
        print(f"{name}: {value:.3f}")
    save(
        f"restoration_{network.config.name}",
        rows,
        summary=summary,
        noise=NOISE,
        seed=options.seed,
        kernel_sizes=[3, network.config.analysis.kernel_size],
    )


if __name__ == "__main__":
    main()
