"""Host entries of guided modulation for CUDA, run on the CPU, against the operators for the CPU."""

import itertools
from typing import Any

import pytest
import torch
from host_entries import assert_like_cpu
from torch import Tensor

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
FORMATS = (torch.contiguous_format, torch.channels_last)
# One element, one pixel (both layouts at once), odd sizes, maps that several blocks share, empty ones.
SHAPES = [
    (1, 1, 1, 1),
    (3, 17, 1, 1),
    (2, 3, 7, 5),
    (1, 24, 33, 31),
    (1, 2, 90, 101),
    (0, 3, 4, 4),
    (2, 3, 0, 4),
]
LIKE_CPU = pytest.mark.usefixtures("cuda_operators", "poisoned")


def make_maps(shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format) -> Tensor:
    return torch.randn(shape).to(dtype=dtype, memory_format=memory_format)


def make_tables(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Multiplier, shift and conv_bias as the operators take them."""
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    N, C = shape[:2]
    return torch.randn(N, C, dtype=dtype), torch.randn(N, C, dtype=dtype), torch.randn(C, dtype=dtype)


@LIKE_CPU
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_forward(memory_format: torch.memory_format, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for i, shape in enumerate(SHAPES):
        arguments = (make_maps(shape, dtype, memory_format), *make_tables(shape, dtype), i % 2 == 0)
        assert_like_cpu("guided_modulation", arguments)
        assert_like_cpu("guided_modulation_", arguments)


@LIKE_CPU
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_backward(memory_format: torch.memory_format, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    for shape in SHAPES:
        grad, x = (make_maps(shape, dtype, memory_format) for _ in range(2))
        m, b, c = make_tables(shape, dtype)
        # The terms, g (x + c) and g, have random signs: their sums grow like the norm of the terms.
        shifted = grad.double() * (x.double() + c[:, None, None])
        norms = [
            float(t.double().square().sum((2, 3)).amax().sqrt()) if t.numel() else 0.0
            for t in (shifted, grad)
        ]

        def check(*arguments: Any, norms: list[float] = norms) -> None:
            assert_like_cpu("guided_modulation_backward", arguments, partial_sums=[0.0, *norms])

        check(grad, x, None, m, b, c, False)
        check(grad, None, x, m, b, c, True)
        check(grad, None, None, m, b, c, False)
        # Where the modulated element is nearly zero, rounding decides the mask of the ReLU.
        modulated = (x.double() + c[:, None, None]) * (1 + m[:, :, None, None]) + b[:, :, None, None]
        x[modulated.abs() < 1e-3] = 5
        check(grad, x, None, m, b, c, True)


@LIKE_CPU
def test_absent_parameters() -> None:
    torch.manual_seed(2)
    for memory_format, present in itertools.product(FORMATS, itertools.product((True, False), repeat=3)):
        x, grad = (make_maps((2, 8, 5, 3), torch.float32, memory_format) for _ in range(2))
        made = make_tables((2, 8), torch.float32)
        tables = [t if wanted else None for t, wanted in zip(made, present, strict=True)]
        for relu in (True, False):
            assert_like_cpu("guided_modulation", (x, *tables, relu))
        assert_like_cpu("guided_modulation_backward", (grad, x, None, *tables, False))


@pytest.mark.parametrize(
    "view",
    ["every second map", "inner pixels", "transposed", "expanded", "odd start", "channels-last odd start"],
)
def test_strided_maps(cuda_operators, view: str) -> None:
    """Strides of neither layout, and dense maps that are not aligned to 16 bytes."""
    torch.manual_seed(3)
    base = torch.randn(3, 8, 9, 9)
    x = {
        "every second map": base[:2, ::2],
        "inner pixels": base[:2, :4, 1:-2, 2:-1],
        "transposed": base[:2, :4].contiguous().transpose(2, 3),
        "expanded": base[:1, :4].expand(2, 4, 9, 9),
        "odd start": base[:, :1].contiguous()[1:],
        "channels-last odd start": base[:, :3].to(memory_format=torch.channels_last)[1:],
    }[view]
    tables = make_tables(tuple(x.shape), torch.float32)
    grad = torch.randn(x.shape[0], x.shape[3], x.shape[2], x.shape[1]).permute(0, 3, 2, 1)
    calls = [
        ("guided_modulation", (x, *tables, True)),
        ("guided_modulation_backward", (grad, x, None, *tables, False)),
    ]
    for operator, arguments in calls:
        result = getattr(cuda_operators, operator)(*arguments)
        expected = getattr(torch.ops.asnet, operator)(*arguments)
        torch.testing.assert_close(result, expected, check_stride=True)
    if "odd start" in view:
        changed = x.clone(memory_format=torch.preserve_format).copy_(x)
        cuda_operators.guided_modulation_(x, *tables, True)
        torch.testing.assert_close(x, torch.ops.asnet.guided_modulation(changed, *tables, True))


def test_strided_tables(cuda_operators) -> None:
    """One blur kernel expanded to a batch, a transposed table, every second bias."""
    torch.manual_seed(4)
    x, grad = torch.randn(2, 3, 6, 5), torch.randn(2, 3, 6, 5)
    tables = (torch.randn(1, 3).expand(2, 3), torch.randn(3, 2).t(), torch.randn(6)[::2])
    dense = [t.contiguous() for t in tables]
    for memory_format in FORMATS:
        x, grad = (t.contiguous(memory_format=memory_format) for t in (x, grad))
        result = cuda_operators.guided_modulation(x, *tables, True)
        assert torch.equal(result, cuda_operators.guided_modulation(x, *dense, True))
        results = cuda_operators.guided_modulation_backward(grad, x, None, *tables, True)
        expected = cuda_operators.guided_modulation_backward(grad, x, None, *dense, True)
        assert all(map(torch.equal, results, expected))


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_same_bits_every_time(cuda_operators, memory_format: torch.memory_format) -> None:
    torch.manual_seed(5)
    grad, x = (make_maps((1, 2, 90, 101), torch.float32, memory_format) for _ in range(2))
    tables = make_tables((1, 2), torch.float32)
    first, second = (
        cuda_operators.guided_modulation_backward(grad, x, None, *tables, True) for _ in range(2)
    )
    assert all(map(torch.equal, first, second))


def test_bad_input_is_named(cuda_operators) -> None:
    x, table = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3)
    with pytest.raises(RuntimeError, match=r"x must have 4 dimensions \(N, C, H, W\), got 3"):
        cuda_operators.guided_modulation(x[0], None, None, None, True)
    with pytest.raises(RuntimeError, match="feature maps must be float32, float64, bfloat16 or float16"):
        cuda_operators.guided_modulation(x.int(), None, None, None, True)
    with pytest.raises(RuntimeError, match="shift has size 2 in dimension 1, x asks for 3"):
        cuda_operators.guided_modulation(x, None, table[:, :2], None, True)
    with pytest.raises(RuntimeError, match="multiplier must have dtype float32"):
        cuda_operators.guided_modulation(x, table.double(), None, None, True)
    with pytest.raises(RuntimeError, match="x must be contiguous or channels-last"):
        cuda_operators.guided_modulation_(x.clone()[:, :, ::2], None, None, None, True)
    with pytest.raises(RuntimeError, match="the ReLU needs x or output"):
        cuda_operators.guided_modulation_backward(x, None, None, None, None, None, True)
    with pytest.raises(RuntimeError, match="x has size 1 in dimension 0, grad has 2"):
        cuda_operators.guided_modulation_backward(x, x[:1], None, None, None, None, False)
