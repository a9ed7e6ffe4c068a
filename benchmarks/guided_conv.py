"""Time of the guided convolutions against the same arithmetic as separate torch operations.

    python benchmarks/guided_conv.py [--threads 1] [--repeats 9] [--only epilogue]

Contiguous and channels-last, in float32 and bfloat16, forward, and forward with backward to every argument:

- the epilogue, ``relu((x + c) * (1 + m) + b)``, against four torch operations; beside it, forward, ``clone``,
  the least that an operation can cost which reads its input once and writes a new output;
- `guided_conv2d`, 3x3, one blur kernel (without gradients it folds), against convolution, multiplication,
  addition, ReLU;
- `guided_pointwise_conv2d` against concatenation, convolution, multiplication, addition, ReLU.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from measure import Case, Contender, arguments, geometric_mean, measure, print_table, save
from torch import Tensor
from torch.nn import functional as F

from asnet.ops import guided_conv2d, guided_modulation, guided_pointwise_conv2d

#: N, C, H, W: levels of the compact and the released topology, and of a crop of training.
SHAPES = [(1, 32, 384, 512), (1, 128, 192, 256), (1, 128, 96, 128), (4, 32, 128, 128), (4, 128, 32, 32)]
FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
#: In bfloat16 each separate operation rounds: their summed gradients err by up to a tenth of the largest.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.25}
GOAL = "the epilogue: a ratio of 2, forward and backward"

Function = Callable[..., Tensor]


def eager_modulation(x: Tensor, multiplier: Tensor, shift: Tensor) -> Tensor:
    """What follows a convolution with its bias, as separate operations."""
    return torch.relu(x * (1 + multiplier)[:, :, None, None] + shift[:, :, None, None])


def epilogue(x: Tensor) -> tuple[Function, Function, Sequence[Tensor]]:
    """Ours, the separate operations, their arguments."""
    N, C = x.shape[:2]

    def ours(x: Tensor, multiplier: Tensor, shift: Tensor, bias: Tensor) -> Tensor:
        return guided_modulation(x, multiplier, shift, conv_bias=bias)

    def eager(x: Tensor, multiplier: Tensor, shift: Tensor, bias: Tensor) -> Tensor:
        return eager_modulation(x + bias[:, None, None], multiplier, shift)

    return ours, eager, (x, torch.randn(N, C), torch.randn(N, C), torch.randn(C))


def convolution(x: Tensor) -> tuple[Function, Function, Sequence[Tensor]]:
    """A 3x3 convolution to as many maps, guided by one blur kernel."""
    C = x.shape[1]

    def ours(x: Tensor, weight: Tensor, bias: Tensor, multiplier: Tensor, shift: Tensor) -> Tensor:
        return guided_conv2d(x, weight, bias, multiplier, shift, padding=1)

    def eager(x: Tensor, weight: Tensor, bias: Tensor, multiplier: Tensor, shift: Tensor) -> Tensor:
        return eager_modulation(F.conv2d(x, weight, bias, padding=1), multiplier, shift)

    weight = torch.randn(C, C, 3, 3) / (3 * C**0.5)
    return ours, eager, (x, weight, torch.randn(C), torch.randn(1, C), torch.randn(1, C))


def pointwise(x: Tensor) -> tuple[Function, Function, Sequence[Tensor]]:
    """A 1x1 convolution of two inputs to as many maps as one of them has."""
    N, C = x.shape[:2]

    def eager(
        x1: Tensor, x2: Tensor, weight: Tensor, bias: Tensor, multiplier: Tensor, shift: Tensor
    ) -> Tensor:
        return eager_modulation(F.conv2d(torch.cat([x1, x2], dim=1), weight, bias), multiplier, shift)

    weight = torch.randn(C, 2 * C, 1, 1) / (2 * C) ** 0.5
    guides = (torch.randn(C), torch.randn(N, C), torch.randn(N, C))
    return guided_pointwise_conv2d, eager, (x, torch.randn_like(x), weight, *guides)


def forward(function: Function, values: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    """The function without gradients."""

    def run() -> list[Tensor]:
        with torch.no_grad():
            return [function(*values)]

    return run


def with_backward(
    function: Function, values: Sequence[Tensor], upstream: Tensor
) -> Callable[[], list[Tensor]]:
    """The function and its backward pass to all arguments.

    In bfloat16 the gradients of feature maps are not compared: where a sum is close to zero, rounding decides
    whether the ReLU lets an element through.
    """

    def run() -> list[Tensor]:
        gradients = torch.autograd.grad(function(*values), values, upstream)
        return [g for g in gradients if g.dtype == torch.float32 or g.shape != values[0].shape]

    return run


def cases() -> Iterator[Case]:
    """Every case, made when it is its turn."""
    for build, shape, dtype, layout in itertools.product(
        (epilogue, convolution, pointwise), SHAPES, TOLERANCES, FORMATS
    ):
        torch.manual_seed(0)
        ours, eager, values = build(torch.randn(shape).to(memory_format=FORMATS[layout]))
        values = [value.to(dtype).requires_grad_() for value in values]
        precision, tolerance = str(dtype).removeprefix("torch."), TOLERANCES[dtype]
        facts = {"operator": build.__name__, "shape": list(shape), "dtype": precision, "layout": layout}
        name = f"{build.__name__} {'x'.join(map(str, shape))} {precision} {layout}"
        contenders = [
            Contender("asnet", forward(ours, values)),
            Contender("separate operations", forward(eager, values), tolerance),
        ]
        if build is epilogue:
            contenders.append(Contender("clone", forward(torch.clone, values[:1]), float("inf")))
        yield Case(f"{name} forward", contenders, facts | {"backward": False})
        upstream = torch.randn_like(ours(*values))
        yield Case(
            f"{name} with backward",
            [
                Contender("asnet", with_backward(ours, values, upstream)),
                Contender("separate operations", with_backward(eager, values, upstream), tolerance),
            ],
            facts | {"backward": True},
        )


def main() -> None:
    """Measure the cases, print a table and a summary, write the results."""
    options = arguments("Guided convolutions against separate torch operations.").parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    results = []
    for case in cases():
        if options.only in case.name:
            results.append(measure(case, repeats=options.repeats, budget=options.budget))
            print_table(results[-1:])
    summary = {}
    for operator, backward in itertools.product(("epilogue", "convolution", "pointwise"), (False, True)):
        ratios = [
            result["contenders"]["separate operations"]["ratio"]
            for result in results
            if result["operator"] == operator and result["backward"] is backward
        ]
        if ratios:
            what = f"{operator} {'with backward' if backward else 'forward'}"
            mean = geometric_mean(ratios)
            summary[what] = {"least_ratio": min(ratios), "mean_ratio": round(mean, 2), "cases": len(ratios)}
            print(f"{what:25s} separate operations take {mean:.2f} times as long on average")
    # A selection has a file of its own.
    name = "_".join(["guided_conv", *options.only.split()])
    print("written to", save(name, results, goal=GOAL, summary=summary).name)


if __name__ == "__main__":
    main()
