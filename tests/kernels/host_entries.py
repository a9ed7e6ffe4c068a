"""Comparison of the CUDA host entries, run on the CPU, with the operators for the CPU."""

from collections.abc import Sequence
from typing import Any

import torch
from accuracy import assert_as_accurate
from torch import Tensor

import asnet.ops  # noqa: F401  (loads torch.ops.asnet)


def tensors_of(result: Any) -> list[Tensor]:
    """The tensors that an operator has returned, in order."""
    if result is None:
        return []
    return [result] if isinstance(result, Tensor) else list(result)


def copy_of(value: Any) -> Any:
    """A copy of a tensor with the same strides, gaps included; other values unchanged."""
    if not isinstance(value, Tensor):
        return value
    storage = value.untyped_storage().clone()
    place = (value.storage_offset(), value.size(), value.stride())
    return torch.empty(0, dtype=value.dtype).set_(storage, *place)  # type: ignore[call-overload]


def in_float64(argument: Any) -> Any:
    """A floating-point tensor in float64; other values unchanged."""
    is_real = isinstance(argument, Tensor) and argument.is_floating_point()
    return argument.double() if is_real else argument


def assert_like_cpu(
    operator: str, arguments: Sequence[Any], *, same_strides: bool = True, partial_sums: Sequence[float] = ()
) -> None:
    """Both libraries' `operator` gives the same shapes, dtypes and, within accuracy.py's budget, values.

    Parameters
    ----------
    operator : a name in ``torch.ops.asnet``; arguments that it modifies are compared as well.
    arguments : as the operator takes them; not modified.
    same_strides : whether the results must have the same strides.
    partial_sums : of each result, as `assert_as_accurate` takes it; zeros where none are given.
    """

    def run(library: str, values: Sequence[Any]) -> list[Tensor]:
        copies = [copy_of(value) for value in values]
        returned = tensors_of(getattr(getattr(torch.ops, library), operator)(*copies))
        return [*returned, *(value for value in copies if isinstance(value, Tensor))]

    results = run("asnet_cuda_on_cpu", arguments)
    expected = run("asnet", arguments)
    exact = run("asnet", [in_float64(argument) for argument in arguments])
    assert len(results) == len(expected)
    sizes = [*partial_sums, *[0.0] * (len(results) - len(partial_sums))]
    for result, eager, truth, size in zip(results, expected, exact, sizes, strict=True):
        assert result.dtype == eager.dtype
        assert result.shape == eager.shape
        assert not same_strides or result.stride() == eager.stride()
        if result.dtype == torch.bool:
            assert torch.equal(result, eager)
        else:
            assert_as_accurate(result, eager, truth, partial_sums=size)
