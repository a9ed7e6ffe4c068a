"""Line kernels: length, direction, and values that are refused."""

import math
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from asnet.deblurring.line_kernels import line_kernel, parse_line
from asnet.errors import InputError


def test_a_horizontal_line_is_the_mean_of_shifts_along_it() -> None:
    kernel = line_kernel(4, 0)
    expected = torch.zeros(5, 5)
    expected[2] = torch.tensor([1, 2, 2, 2, 1]) / 8
    assert torch.allclose(kernel, expected, atol=1e-4)
    assert torch.allclose(line_kernel(4, 90), expected.T, atol=1e-4)


@pytest.mark.parametrize("length", [0.3, 1, 7.5, 24, 61])
@pytest.mark.parametrize("angle", [0, 30, 45, 133, 180, -20])
def test_spread_and_direction(length: float, angle: float) -> None:
    kernel = line_kernel(length, angle).double()
    size = kernel.shape[0]
    assert size % 2 == 1
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
    offsets = torch.arange(size, dtype=torch.float64) - size // 2
    x, y = offsets[None], -offsets[:, None]
    assert float((kernel * x).sum()) == pytest.approx(0, abs=1e-5)
    assert float((kernel * y).sum()) == pytest.approx(0, abs=1e-5)
    radians = math.radians(angle)
    along = x * math.cos(radians) + y * math.sin(radians)
    across = y * math.cos(radians) - x * math.sin(radians)
    # A line spreads by length^2 / 12; interpolation adds up to a quarter of a pixel in every direction.
    assert 0 <= float((kernel * along.square()).sum()) - length**2 / 12 < 0.26
    assert float((kernel * across.square()).sum()) < 0.26


def test_counter_clockwise() -> None:
    kernel = line_kernel(10, 45)
    assert kernel[0, -1] > 0
    assert kernel[0, 0] == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7", "LENGTH,ANGLE"),
        ("7,x", "LENGTH,ANGLE"),
        ("7,1,2", "LENGTH,ANGLE"),
        ("0,10", "above 0"),
        ("nan,10", "above 0"),
        ("5000,10", "at most 1000"),
        ("5,inf", "degrees"),
    ],
)
def test_what_is_no_line_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_line(text)


def test_the_longest_line_takes_little_memory() -> None:
    class Largest(TorchDispatchMode):
        values = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                self.values = max(self.values, result.numel())
            return result

    with Largest() as largest:
        kernel = line_kernel(1000, 30)
    assert kernel.numel() < largest.values < 4 * kernel.numel()
