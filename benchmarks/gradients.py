"""Gradients of every operator and of whole pairs of networks, in float64, against references.

    python benchmarks/gradients.py

For every differentiable argument: the largest difference from the gradient of the reference by autograd, over
the largest element, and the largest difference from central differences of the operator itself along random
directions, over the largest such derivative. Networks are small ones of each topology, with all parameters of
each half together; the reference is the same network with every operator of asnet replaced by its reference.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple
from unittest import mock

import torch
from measure import save
from torch import Tensor

from asnet.networks import ASNetConfig, DeblurNetwork, DeblurResult, analysis, kernel_equations, synthesis
from asnet.networks.config import IteratedAnalysisConfig
from asnet.ops import (
    cross_correlation,
    guided_conv2d,
    guided_modulation,
    guided_pointwise_conv2d,
    reference,
)

DIRECTIONS = 4
#: Steps of central differences; in a network, where a step moves everything, a longer step would cross kinks.
OPERATOR_STEP, NETWORK_STEP = 1e-6, 1e-8
#: Tolerances of float64 sums of some thousand terms, and of central differences with the steps above.
REFERENCE_TOLERANCE, DIFFERENCE_TOLERANCE = 1e-9, 1e-5

Function = Callable[..., Tensor]


class Case(NamedTuple):
    """An operator with some options, its reference, and arguments that all have a gradient."""

    operator: str
    options: str
    function: Function
    reference: Function
    arguments: dict[str, Tensor]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def correlation_cases() -> list[Case]:
    """Both methods and boundaries, lags up to more than the image."""
    cases = []
    for boundary in ("zero", "circular"):
        for method in ("direct", "spectral"):
            for shape, lags in (((2, 3, 17, 14), (3, 4)), ((1, 4, 9, 40), (11, 2))):

                def function(x: Tensor, b: Any = boundary, m: Any = method, lags: Any = lags) -> Tensor:
                    return cross_correlation(x, lags, boundary=b, method=m)

                def truth(x: Tensor, b: Any = boundary, lags: Any = lags) -> Tensor:
                    return reference.cross_correlation(x, lags, boundary=b)

                options = f"{method}, {boundary}, lags {lags}"
                cases.append(
                    Case("cross_correlation", options, function, truth, {"features": random(*shape)})
                )
    return cases


def modulation(operator: Function) -> Function:
    """guided_modulation of positional arguments."""
    return lambda x, m, b, c: operator(x, m, b, conv_bias=c)


def convolution(operator: Function) -> Function:
    """guided_conv2d of positional arguments."""
    return lambda x, w, m, b, c: operator(x, w, c, m, b, stride=(1, 2), padding=1)


def pointwise(operator: Function) -> Function:
    """guided_pointwise_conv2d of positional arguments."""
    return lambda x1, x2, w, m, b, c: operator(x1, x2, w, c, m, b)


def guided_cases() -> list[Case]:
    """The guided operators in both layouts."""
    cases = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        layout = str(memory_format).removeprefix("torch.").removesuffix("_format")
        x = random(2, 5, 11, 7).to(memory_format=memory_format)
        guides = {"multiplier": random(2, 4), "shift": random(2, 4), "bias": random(4)}
        maps = random(2, 4, 9, 13).to(memory_format=memory_format)

        x2 = torch.randn_like(x[:, :3])
        for operator, form, arguments in (
            (guided_modulation, modulation, {"x": maps}),
            (guided_conv2d, convolution, {"x": x, "weight": random(4, 5, 3, 3)}),
            (guided_pointwise_conv2d, pointwise, {"x1": x, "x2": x2, "weight": random(4, 8)}),
        ):
            name = operator.__name__
            truth = form(getattr(reference, name))
            cases.append(Case(name, layout, form(operator), truth, arguments | guides))
    return cases


def relative_difference(ours: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Largest difference over the largest element, over all tensors together."""
    largest = max(t.abs().max().item() for t in truth)
    return max((a - b).abs().max().item() for a, b in zip(ours, truth, strict=True)) / largest


def difference_error(
    value: Callable[[], Tensor], moved: Sequence[Tensor], gradients: Sequence[Tensor], step: float
) -> float:
    """Largest error of the derivatives of `value` along random directions of `moved`, see the module."""
    errors, derivatives = [], []
    with torch.no_grad():
        for _ in range(DIRECTIONS):
            directions = [torch.randn_like(t) for t in moved]
            ends = []
            for sign in (1, -2):
                for t, direction in zip(moved, directions, strict=True):
                    t += sign * step * direction
                ends.append(value().item())
            for t, direction in zip(moved, directions, strict=True):
                t += step * direction
            difference = (ends[0] - ends[1]) / (2 * step)
            derivative = sum((g * d).sum().item() for g, d in zip(gradients, directions, strict=True))
            errors.append(abs(difference - derivative))
            derivatives.append(abs(difference))
    return max(errors) / max(derivatives)


def measure_case(case: Case) -> list[dict[str, Any]]:
    """One row for every argument of an operator."""
    values = [t.detach().clone().requires_grad_() for t in case.arguments.values()]
    output = case.function(*values)
    upstream = torch.randn_like(output)
    ours = torch.autograd.grad(output, values, upstream)
    truth = torch.autograd.grad(case.reference(*values), values, upstream)
    return [
        {
            "operator": case.operator,
            "options": case.options,
            "argument": name,
            "against_reference": relative_difference([ours[i]], [truth[i]]),
            "against_differences": difference_error(
                lambda: (case.function(*values) * upstream).sum(), [values[i]], [ours[i]], OPERATOR_STEP
            ),
        }
        for i, name in enumerate(case.arguments)
    ]


def small_configurations() -> list[ASNetConfig]:
    """Every topology at a size for which differences are quick."""
    sizes: dict[str, Any] = {"feature_channels": 6, "correlation_channels": 4, "reduced_channels": 5}
    sizes |= {"kernel_size": 13, "levels": 2, "head_channels": (6, 4)}
    paper, official, compact = ASNetConfig.paper(), ASNetConfig.official(), ASNetConfig.compact()
    configurations = []
    for config in (paper, official):
        assert not isinstance(config.analysis, IteratedAnalysisConfig)
        small = replace(config.analysis, **sizes)
        guided = replace(config.synthesis, kernel_size=13, channels=(5, 6, 7), guide_hidden=9)
        configurations.append(ASNetConfig(small, guided, config.name))
    assert isinstance(compact.analysis, IteratedAnalysisConfig)
    iterated = replace(compact.analysis, kernel_size=13, refiner_channels=6)
    guided = replace(compact.synthesis, kernel_size=13, channels=(6, 8, 10), guide_hidden=9)
    return [*configurations, ASNetConfig(iterated, guided, compact.name)]


def reference_operators() -> ExitStack:
    """A context in which the networks use the references."""
    stack = ExitStack()
    for module in (analysis, kernel_equations, synthesis):
        for name in ("cross_correlation", "guided_conv2d", "guided_pointwise_conv2d"):
            if hasattr(module, name):
                stack.enter_context(mock.patch.object(module, name, getattr(reference, name)))
    return stack


def measure_pair(config: ASNetConfig) -> list[dict[str, Any]]:
    """One row for each half of a pair: the gradients of its parameters for a loss on image and kernel."""
    network = DeblurNetwork(config).double()
    with torch.no_grad():
        for parameter in network.parameters():  # away from the initial zeros
            parameter.add_(0.02 * torch.randn_like(parameter))
    blurred = torch.rand(1, 3, 47, 50, dtype=torch.float64)
    image_weights, kernel_weights = random(1, 3, 47, 50) / 50, random(1, 13, 13)

    def loss() -> Tensor:
        result: DeblurResult = network(blurred)
        return (result.image * image_weights).sum() + (result.kernel * kernel_weights).sum()

    def gradients(parameters: list[Tensor]) -> list[Tensor]:
        found = torch.autograd.grad(loss(), parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]

    rows = []
    for name, part in (("analysis", network.analysis), ("synthesis", network.synthesis)):
        parameters: list[Tensor] = list(part.parameters())
        ours = gradients(parameters)
        with reference_operators():
            truth = gradients(parameters)
        rows.append(
            {
                "operator": "DeblurNetwork",
                "options": config.name,
                "argument": f"{name} parameters",
                "against_reference": relative_difference(ours, truth),
                "against_differences": difference_error(loss, parameters, ours, NETWORK_STEP),
            }
        )
    return rows


def main() -> None:
    """Measure, print a table, write the results, and exit with 1 if a gradient is wrong."""
    torch.manual_seed(0)
    rows = [row for case in (*correlation_cases(), *guided_cases()) for row in measure_case(case)]
    rows += [row for config in small_configurations() for row in measure_pair(config)]
    wrong = 0
    print(f"{'':79s}largest relative difference\n{'':78s}{'reference':>12s}{'differences':>14s}")
    for row in rows:
        good = (
            row["against_reference"] < REFERENCE_TOLERANCE
            and row["against_differences"] < DIFFERENCE_TOLERANCE
        )
        wrong += not good
        print(
            f"{row['operator']:25s}{row['options']:33s}{row['argument']:20s}{row['against_reference']:12.1e}"
            + f"{row['against_differences']:14.1e}{'' if good else '  WRONG'}"
        )
    tolerances = {"reference": REFERENCE_TOLERANCE, "differences": DIFFERENCE_TOLERANCE}
    print("written to", save("gradients", rows, tolerances=tolerances).name)
    if wrong:
        sys.exit(f"{wrong} gradients differ by more than {tolerances}")


if __name__ == "__main__":
    main()
