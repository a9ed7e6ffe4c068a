"""Compare ways of giving the synthesis network its deconvolutions, on equal training time.

    python experiments/synthesis_designs.py --photographs FOLDER --validation OTHERS --output designs.json

In `copies` Wiener and sparse deconvolutions of the photograph are inputs of the U-Net; `consistent`, the
design of `compact`, adds the last deconvolution, by which the result fits the photograph. `features`
deconvolves feature maps of two convolutions, with learned strengths. `stages` deconvolves, restores,
deconvolves what the first result leaves of the photograph, and restores again, by two U-Nets of a smaller
width. All start from random weights, see the same batches, and train for the same processor time along the
same cosine. Inference is timed too.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from estimate_kernels import synthesis_config
from torch import Tensor, nn
from torch.nn import functional as F

from asnet.data.batches import BatchSource
from asnet.data.blur_kernels import BlurKernelConfig
from asnet.data.degradation import blur
from asnet.data.photograph_pool import Photographs
from asnet.evaluation.metrics import psnr
from asnet.networks import ASNetConfig, SynthesisConfig, SynthesisNetwork
from asnet.networks.guidance import guide_inputs
from asnet.networks.synthesis import STRENGTH_EXPONENT, PreparedImages
from asnet.networks.wiener import REFERENCE_NOISE, Deconvolution
from asnet.training.losses import image_charbonnier
from asnet.training.run_weights import source_revision
from asnet.training.schedule import LearningRate

#: Widths of the U-Nets' levels: of one, and of each of two.
CHANNELS, STAGE_CHANNELS = (24, 48, 64), (16, 32, 48)

#: Maps that `features` deconvolves, in groups of three with one strength; they take the place of four copies.
FEATURES = 12

#: Of the crops, which have no halo, and of the largest kernels.
CROP, LARGEST_KERNEL, BATCH = 192, 31, 4

GRADIENT_CLIP = 1.0

#: Learning rate by thousandths of the time.
LEARNING_RATE = LearningRate("cosine", 1e-3, 1000, warmup_steps=30)

#: Size (height, width) on which inference is timed.
TIMED = (768, 1024)


def strength(values: Tensor, noise: Tensor) -> Tensor:
    """Return strengths (N, S) of what `values` (S,) are for the reference noise."""
    return values * ((noise / REFERENCE_NOISE) ** STRENGTH_EXPONENT)[:, None]


class Features(nn.Module):
    """Deconvolves learned features of the photograph, beside one Wiener copy that the result is added to."""

    def __init__(self, config: SynthesisConfig) -> None:
        super().__init__()
        self.unet = SynthesisNetwork(config)
        self.first = nn.Conv2d(3, FEATURES, 5, padding=2, padding_mode="replicate")
        self.second = nn.Conv2d(FEATURES, FEATURES, 3, padding=1, padding_mode="replicate")
        self.strengths = nn.Parameter(torch.tensor(config.wiener_strengths[:1] * (FEATURES // 3)).log())

    def forward(self, blurred: Tensor, kernel: Tensor, estimated: Tensor) -> Tensor:
        config = self.unet.config
        statistics = self.unet.statistics(blurred, kernel)
        assert statistics.noise is not None
        maps = self.second(F.relu(self.first(blurred - statistics.mean[:, :, None, None])))
        with torch.autocast(blurred.device.type, enabled=False):
            strengths = strength(self.strengths.exp(), statistics.noise)
            whole = Deconvolution(blurred, kernel)
            (copy,) = whole.wiener(
                strength(blurred.new_tensor(config.wiener_strengths[:1]), statistics.noise)
            )
            copy = whole.crop(copy)
            restored = []
            for index, group in enumerate(maps.float().split(3, dim=1)):
                deconvolution = Deconvolution(group, kernel)
                (sharpened,) = deconvolution.wiener(strengths[:, index : index + 1])
                # The U-Net takes differences from the copy.
                restored.append(copy + deconvolution.crop(sharpened))
            description = guide_inputs(config, kernel, statistics.noise, estimated)
        return self.unet.restore(PreparedImages((blurred, copy, *restored), statistics.mean, description))


class Stages(nn.Module):
    """Deconvolves and restores, then does so with what the first result does not explain."""

    def __init__(self, config: SynthesisConfig) -> None:
        super().__init__()
        self.first = SynthesisNetwork(config)
        self.second = SynthesisNetwork(config)

    def forward(self, blurred: Tensor, kernel: Tensor, estimated: Tensor) -> Tensor:
        config = self.first.config
        statistics = self.first.statistics(blurred, kernel)
        assert statistics.noise is not None
        restored = self.first(blurred, kernel, statistics=statistics, estimated=estimated)
        with torch.autocast(blurred.device.type, enabled=False):
            restored = restored.float()
            reach = kernel.shape[-1] // 2
            left = blurred - blur(F.pad(restored, (reach,) * 4, mode="replicate"), kernel)
            deconvolution = Deconvolution(left, kernel)
            strengths = strength(blurred.new_tensor(config.wiener_strengths), statistics.noise)
            images = [restored + deconvolution.crop(image) for image in deconvolution.wiener(strengths)]
            description = guide_inputs(config, kernel, statistics.noise, estimated)
        return self.second.restore(PreparedImages((restored, *images), statistics.mean, description))


class Copies(nn.Module):
    """Has all deconvolutions as inputs, and perhaps a last one of the result."""

    def __init__(self, config: SynthesisConfig) -> None:
        super().__init__()
        self.unet = SynthesisNetwork(config)

    def forward(self, blurred: Tensor, kernel: Tensor, estimated: Tensor) -> Tensor:
        restored: Tensor = self.unet(blurred, kernel, estimated=estimated)
        return restored


def designs() -> dict[str, Callable[[], nn.Module]]:
    """Return what makes each design, with the widths of this comparison."""
    compact = replace(ASNetConfig.compact().synthesis, consistency=False)
    copies = replace(compact, channels=CHANNELS)
    base = compact.wiener_strengths[compact.residual_strength]
    # As many images as `copies` has: the photograph, one copy and the features.
    features = replace(
        copies,
        wiener_strengths=(base,) * (1 + FEATURES // 3),
        sparse_strengths=(),
        sparse_thresholds=(),
        residual_strength=0,
    )
    stages = replace(
        copies,
        channels=STAGE_CHANNELS,
        wiener_strengths=(base, compact.wiener_strengths[-1]),
        sparse_strengths=(),
        sparse_thresholds=(),
        residual_strength=0,
    )
    return {
        "copies": lambda: Copies(copies),
        "consistent": lambda: Copies(replace(copies, consistency=True)),
        "features": lambda: Features(features),
        "stages": lambda: Stages(stages),
    }


def source(photographs: Path, seed: int) -> BatchSource:
    """Return batches as the recipe `compact` degrades them, with kernels of at most `LARGEST_KERNEL`."""
    recipe = synthesis_config(photographs)
    kernels = BlurKernelConfig(canvas=LARGEST_KERNEL, maximum_size=LARGEST_KERNEL)
    return BatchSource(
        Photographs(photographs),
        kernels,
        recipe.degradation,
        batch_size=BATCH,
        crop=CROP,
        seed=seed,
        wrong_share=recipe.wrong_kernel_share,
    )


def train(network: nn.Module, batches: BatchSource, seconds: float) -> int:
    """Train for so many seconds of processor time and return the number of steps."""
    optimiser = torch.optim.Adam(network.parameters(), fused=True)
    started, steps = time.process_time(), 0
    while (share := (time.process_time() - started) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE.at(int(1000 * share))
        batch = batches.batch(steps)
        with torch.autocast("cpu", torch.bfloat16):
            restored = network(batch.blurred, batch.given, batch.estimated)
        loss = image_charbonnier(restored.float(), batch.sharp)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_CLIP)
        optimiser.step()
        steps += 1
        if steps % 50 == 0:
            print(f"step {steps}, {share:.0%}, loss {float(loss):.4f}", flush=True)
    return steps


@torch.no_grad()
def judge(network: nn.Module, batches: BatchSource, count: int) -> dict[str, float]:
    """Return the mean PSNR gained over the blurred crops, in dB, with known and with wrong kernels."""
    gains: dict[bool, list[float]] = {False: [], True: []}
    for index in range(count):
        batch = batches.batch(index)
        with torch.autocast("cpu", torch.bfloat16):
            restored = network(batch.blurred, batch.given, batch.estimated).float()
        gain = psnr(restored.clamp(0, 1), batch.sharp) - psnr(batch.blurred, batch.sharp)
        for wrong in gains:
            gains[wrong] += gain[batch.estimated == wrong].tolist()
    return {
        f"{name}_gain_db": sum(values) / len(values)
        for name, values in (("known", gains[False]), ("wrong", gains[True]))
    }


@torch.no_grad()
def inference_time(network: nn.Module) -> float:
    """Return the median time of a photograph of `TIMED`, in seconds, of three runs after one."""
    photograph = torch.rand(1, 3, *TIMED)
    kernel = torch.full((1, 21, 21), 1 / 441)
    times = []
    for _ in range(4):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            network(photograph, kernel, torch.tensor([False]))
        times.append(time.perf_counter() - started)
    return median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True, help="folder of sharp photographs")
    parser.add_argument("--validation", type=Path, required=True, help="folder of others, to judge by")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--seconds", type=float, default=900.0, help="processor time of each training")
    parser.add_argument("--designs", nargs="+", default=list(designs()), choices=list(designs()))
    parser.add_argument("--judged", type=int, default=24, help="batches to judge by")
    options = parser.parse_args()

    torch.set_num_threads(1)
    batches, others = source(options.photographs, 0), source(options.validation, 1)
    results = {"revision": source_revision(), "processor_seconds": options.seconds}
    rows: dict[str, dict[str, float]] = {}
    for name in options.designs:
        torch.manual_seed(0)
        network = designs()[name]()
        steps = train(network, batches, options.seconds)
        rows[name] = {
            "parameters": sum(weight.numel() for weight in network.parameters()),
            "steps": steps,
            "inference_seconds": inference_time(network.eval()),
            **judge(network, others, options.judged),
        }
        print(f"{name}: {rows[name]}", flush=True)
        options.output.write_text(json.dumps({**results, "designs": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
