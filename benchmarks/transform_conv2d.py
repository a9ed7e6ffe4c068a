"""Time of the convolution against torch's, for channels-last maps.

In inference with bias and ReLU, in training with all gradients:

    python benchmarks/transform_conv2d.py [--threads 1] [--repeats 9] [--only 7x7]

Convolutions of the released topology and of `compact` at 1024x768, and some near the thresholds at which
`asnet.ops.conv2d` chooses the transforms or, on processors with AMX, its matrix units. In training, those of
the recipe `compact`, in float32.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import torch
from measure import Case, Contender, arguments, convolutions, geometric_mean, measure, print_table, save
from torch import Tensor

from asnet.ops import conv2d
from asnet.ops.transform_conv2d import torch_conv2d

#: Channels in and out, height, width, side of the kernel, stride, zeros at the left, right, top and bottom.
CONVOLUTIONS = [
    (128, 128, 768, 1024, 3, 1, (1, 1, 1, 1)),
    (128, 128, 192, 256, 3, 1, (1, 1, 1, 1)),
    (128, 128, 96, 128, 3, 1, (1, 1, 1, 1)),
    (128, 512, 192, 256, 3, 1, (1, 1, 1, 1)),
    (3, 128, 768, 1024, 3, 1, (1, 1, 1, 1)),
    (128, 3, 768, 1024, 3, 1, (1, 1, 1, 1)),
    (48, 48, 384, 512, 3, 1, (1, 1, 1, 1)),
    (96, 96, 192, 256, 3, 1, (1, 1, 1, 1)),
    (128, 128, 48, 64, 3, 1, (1, 1, 1, 1)),
    (128, 128, 768, 1024, 3, 2, (0, 1, 0, 1)),
    (128, 128, 384, 512, 3, 2, (0, 1, 0, 1)),
    (64, 64, 762, 1018, 7, 1, (0, 0, 0, 0)),
    (64, 64, 90, 122, 7, 1, (0, 0, 0, 0)),
    (1, 64, 768, 1024, 7, 1, (0, 0, 0, 0)),
]

#: Images, channels and side of the maps of 3x3 convolutions in training.
TRAINED = [(4, 48, 80), (4, 96, 40), (4, 48, 160), (4, 128, 128)]

#: torch rounds every sum to bfloat16, asnet only once.
TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 2e-2}
GOAL = "faster than torch wherever kernels of ours are chosen"


Padding = tuple[int, int, int, int]


def by_asnet(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: Padding) -> list[Tensor]:
    """The convolution that the networks call."""
    return [conv2d(x, weight, bias, stride, padding, relu=True)]


def by_torch(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: Padding) -> list[Tensor]:
    """Its fallback."""
    return [torch_conv2d(x, weight, bias, (stride, stride), padding).relu_()]


def trained(
    convolve: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor, gradient: Tensor
) -> list[Tensor]:
    """A convolution and its gradients."""
    with torch.enable_grad():
        operands = [operand.detach().requires_grad_() for operand in (x, weight, bias)]
        out = convolve(*operands, (1, 1), (1, 1, 1, 1))
        return [out.detach(), *torch.autograd.grad(out, operands, gradient)]


def training_cases() -> Iterator[Case]:
    """The cases of training, built on demand."""
    for N, channels, side in TRAINED:
        torch.manual_seed(0)
        x, gradient = (
            torch.randn(N, channels, side, side).to(memory_format=torch.channels_last) for _ in range(2)
        )
        weight, bias = torch.randn(channels, channels, 3, 3) / (3 * channels**0.5), torch.randn(channels)
        operands = (x, weight, bias, gradient)
        yield Case(
            f"training 3x3 {N}x{channels} maps of {side}x{side} float32",
            [
                Contender("asnet", partial(trained, conv2d, *operands)),
                Contender("torch", partial(trained, torch_conv2d, *operands), TOLERANCES[torch.float32]),
            ],
            {
                "images": N,
                "channels": [channels, channels],
                "size": [side, side],
                "kernel": 3,
                "stride": 1,
                "dtype": "float32 in training",
                "gigaflop": round(6e-9 * N * channels**2 * 9 * side**2, 2),
            },
        )


def inference_cases() -> Iterator[Case]:
    """The cases of inference, built on demand."""
    for (C_in, C_out, H, W, size, stride, padding), dtype in itertools.product(CONVOLUTIONS, TOLERANCES):
        torch.manual_seed(0)
        x = torch.randn(1, C_in, H, W).to(dtype).to(memory_format=torch.channels_last)
        weight = (torch.randn(C_out, C_in, size, size) / (size * C_in**0.5)).to(dtype)
        bias = torch.randn(C_out).to(dtype)
        operands = (x, weight, bias, stride, padding)
        precision = str(dtype).removeprefix("torch.")
        yield Case(
            f"{size}x{size} stride {stride} {C_in} to {C_out} maps of {H}x{W} {precision}",
            [
                Contender("asnet", partial(by_asnet, *operands)),
                Contender("torch", partial(by_torch, *operands), TOLERANCES[dtype]),
            ],
            {
                "channels": [C_in, C_out],
                "size": [H, W],
                "kernel": size,
                "stride": stride,
                "dtype": precision,
                "gigaflop": round(2e-9 * C_in * C_out * size**2 * H * W / stride**2, 2),
            },
        )


def main() -> None:
    """Measure the cases, print a table and a summary, write the results."""
    options = arguments("The convolution against torch's.").parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    results = []
    with torch.no_grad():
        for case in itertools.chain(inference_cases(), training_cases()):
            if options.only in case.name:
                results.append(measure(case, repeats=options.repeats, budget=options.budget))
                print_table(results[-1:], heads=len(results) == 1)
    summary = {}
    for precision in sorted({result["dtype"] for result in results}):
        ratios = [r["contenders"]["torch"]["ratio"] for r in results if r["dtype"] == precision]
        summary[precision] = {"least_ratio": min(ratios), "mean_ratio": round(geometric_mean(ratios), 2)}
        print(f"{precision}: torch takes {summary[precision]['mean_ratio']} times as long on average")
    name = "_".join(["transform_conv2d", *options.only.split()])
    print("written to", save(name, results, goal=GOAL, **convolutions(), summary=summary).name)


if __name__ == "__main__":
    main()
