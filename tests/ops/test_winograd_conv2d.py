"""Winograd's convolution against the formula, and when `convolve` chooses it."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.errors import AsnetError
from asnet.ops import convolve

# (N, C_in, C_out, H, W), kernel, padding: sizes around tiles (4 pixels), blocks of tiles, registers and
# panels of channels; single pixels and channels; kernels of one part and of four; padding larger than the
# kernel.
CASES = [
    ((1, 1, 1, 1, 1), 3, 1), ((2, 3, 5, 4, 4), 3, 1), ((1, 16, 64, 5, 24), 3, 1),
    ((1, 17, 65, 25, 23), 3, 1), ((3, 40, 15, 9, 30), 3, 0), ((1, 2, 3, 3, 7), 3, 4),
    ((1, 5, 33, 20, 29), 2, 0), ((2, 9, 20, 13, 31), 5, 2), ((1, 1, 64, 30, 27), 7, 0),
    ((2, 18, 35, 26, 11), 7, 3), ((1, 4, 17, 8, 33), 8, 0), ((1, 100, 130, 8, 7), 3, 1),
]  # fmt: skip

# Largest error in roundings of the sum of absolute products, kernels of one part and of four: over twenty
# seeds of these cases it came to 8 and 27, that of torch's direct sums to 2.4.
ROUNDINGS = {1: 10, 2: 35}


def winograd(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: int,
    relu: bool,
    addend: Tensor | None = None,
) -> Tensor:
    """The operator with everything in torch's order of dimensions."""
    pixels = torch.ops.asnet.winograd_conv2d(
        x.permute(0, 2, 3, 1), weight.permute(2, 3, 1, 0).float(), bias,
        None if addend is None else addend.permute(0, 2, 3, 1), padding, relu,
    )  # fmt: skip
    return pixels.permute(0, 3, 1, 2)


def formula(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: int,
    relu: bool,
    addend: Tensor | None = None,
) -> Tensor:
    """The same by torch's convolution, in float64."""
    x, weight = x.double(), weight.double()
    out = F.conv2d(x, weight, bias, padding=padding)
    out = out if addend is None else out + addend
    return out.relu() if relu else out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("shape", "kernel", "padding"), CASES)
@pytest.mark.usefixtures("poisoned")
def test_result_is_that_of_the_formula(shape, kernel, padding, dtype):
    torch.manual_seed(0)
    N, C_in, C_out, H, W = shape
    x = torch.randn(N, C_in, H, W).to(dtype)
    weight = (torch.randn(C_out, C_in, kernel, kernel) / (kernel * C_in**0.5)).to(dtype)
    bias = torch.randn(C_out)
    addend = torch.randn(N, C_out, H + 2 * padding - kernel + 1, W + 2 * padding - kernel + 1).to(dtype)
    products = F.conv2d(x.double().abs(), weight.double().abs(), padding=padding).max().item()
    for options in ((bias.double(), padding, True, addend), (None, padding, False, None)):
        exact = formula(x, weight, *options)
        result = winograd(x, weight, bias if options[0] is not None else None, *options[1:])
        assert result.dtype == dtype
        assert result.shape == exact.shape
        allowed = ROUNDINGS[1 if kernel <= 3 else 2] * torch.finfo(torch.float32).eps * products
        # One rounding to the dtype of the maps at the end.
        allowed += torch.finfo(dtype).eps * exact.abs().max().item()
        assert (result.double() - exact).abs().max().item() <= allowed


def test_errors_are_those_that_the_documentation_states():
    """About twice a direct float32 sum for 3x3, five times for 7x7."""
    torch.manual_seed(0)
    for kernel, factor in ((3, 3), (7, 8)):
        x, weight = torch.rand(1, 64, 50, 50), torch.randn(64, 64, kernel, kernel)
        exact = F.conv2d(x.double(), weight.double())
        errors = [
            float((result.double() - exact).std())
            for result in (winograd(x, weight, None, 0, False), F.conv2d(x, weight))
        ]
        assert errors[0] < factor * errors[1]


def test_padding_holds_zeros_and_nothing_of_the_neighbouring_image():
    x = torch.full((2, 16, 8, 8), torch.nan)
    x[1] = 1
    weight = torch.ones(16, 16, 3, 3)
    result = winograd(x, weight, None, 1, False)
    assert result[0].isnan().all()
    assert result[1, 0, 0, 0] == pytest.approx(4 * 16)
    assert result[1, 0, 3, 3] == pytest.approx(9 * 16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(dtype):
    x, weight = torch.randn(2, 9, 8, 16).to(dtype), torch.randn(3, 3, 16, 5)
    addend = torch.randn(2, 9, 8, 5).to(dtype)
    torch.library.opcheck(
        torch.ops.asnet.winograd_conv2d.default, (x, weight, torch.randn(5), addend, 1, True),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )  # fmt: skip


def test_the_number_of_threads_does_not_change_a_bit():
    x, weight = torch.randn(2, 20, 60, 70), torch.randn(50, 20, 3, 3)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(winograd(x, weight, None, 1, True))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_empty_batch():
    assert winograd(torch.empty(0, 3, 8, 9), torch.ones(4, 3, 3, 3), None, 1, True).shape == (0, 4, 8, 9)


@pytest.mark.parametrize(
    ("x", "weight", "options", "words"),
    [
        (torch.ones(2, 3, 4), torch.ones(3, 3, 4, 5), (None, None, 1), "got 3 dimensions"),
        (torch.ones(1, 9, 9, 4), torch.ones(3, 3, 5, 5), (None, None, 1), r"\(K, K, 4, C_out\)"),
        (torch.ones(1, 9, 9, 4), torch.ones(3, 5, 4, 5), (None, None, 1), "3x5, expected a square of 2 to 8"),
        (torch.ones(1, 9, 9, 4), torch.ones(9, 9, 4, 5), (None, None, 1), "the kernel is 9x9"),
        (torch.ones(1, 9, 9, 4), torch.ones(3, 3, 4, 5), (None, None, -1), "padding is -1"),
        (torch.ones(1, 1, 9, 4), torch.ones(3, 3, 4, 5), (None, None, 0), "fit into padded maps of 1x9"),
        (torch.ones(1, 9, 9, 4), torch.ones(3, 3, 4, 5), (torch.ones(4), None, 1), r"of the shape \(5,\)"),
        (torch.ones(1, 9, 9, 4), torch.ones(3, 3, 4, 5), (None, torch.ones(1, 9, 8, 5), 1), "has size 8"),
        (torch.ones(1, 9, 9, 4).double(), torch.ones(3, 3, 4, 5), (None, None, 1), "must be float32"),
    ],
)  # fmt: skip
def test_the_operator_prints_what_it_refuses(x, weight, options, words):
    with pytest.raises(RuntimeError, match=words):
        torch.ops.asnet.winograd_conv2d(x, weight, *options, True)


def channels_last(*shape: int) -> Tensor:
    return torch.randn(shape).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_convolve_is_conv2d_with_all_that_follows(size, gradient, layout):
    torch.manual_seed(0)
    x = torch.randn(2, 64, 70, 66).to(memory_format=layout)
    weight, bias = torch.randn(24, 64, size, size) / (8 * size), torch.randn(24)
    expected = F.conv2d(x, weight, bias)
    addend = torch.randn_like(expected)
    kept = addend.clone()
    result = convolve(x, weight.requires_grad_(gradient), bias, relu=True, addend=addend)
    assert result.requires_grad == gradient
    assert torch.equal(addend, kept)
    assert result.is_contiguous(memory_format=layout)
    assert (result - (expected + addend).relu()).abs().max() < 1e-5 * expected.abs().max()
    if gradient:
        result.sum().backward()
        assert weight.grad is not None


def test_convolve_with_stride_and_uneven_padding():
    x, weight = channels_last(1, 64, 80, 90), torch.randn(64, 64, 3, 3)
    for stride, padding in (((2, 2), (1, 1)), ((1, 1), (1, 0))):
        expected = F.conv2d(x, weight, None, stride, padding)
        assert torch.allclose(convolve(x, weight, None, stride, padding), expected, atol=1e-4)


def test_convolve_in_float64_stays_exact():
    x, weight = channels_last(1, 64, 80, 90).double(), torch.randn(64, 64, 3, 3).double()
    assert torch.equal(convolve(x, weight, None, padding=(1, 1)), F.conv2d(x, weight, padding=1))


def test_convolve_under_autocast():
    x, weight, bias = channels_last(1, 64, 120, 130), torch.randn(64, 64, 3, 3), torch.randn(64)
    exact = F.conv2d(x.bfloat16().double(), weight.bfloat16().double(), bias.double(), padding=1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        result = convolve(x, weight, bias, padding=(1, 1))
    assert result.dtype == torch.bfloat16
    assert (result.double() - exact).abs().max() < 2 * torch.finfo(torch.bfloat16).eps * exact.abs().max()


def test_compiled_convolve():
    x, weight = channels_last(1, 64, 80, 90), torch.randn(64, 64, 3, 3)
    with torch.no_grad():
        compiled = torch.compile(convolve, backend="eager", fullgraph=True)
        assert torch.equal(compiled(x, weight, None), convolve(x, weight, None))


def test_a_derivative_of_the_operator_itself_is_refused_by_name():
    x = torch.randn(1, 8, 8, 4, requires_grad=True)
    with pytest.raises(AsnetError, match="winograd_conv2d has no derivative"):
        torch.ops.asnet.winograd_conv2d(x, torch.randn(3, 3, 4, 4), None, None, 1, False).sum().backward()
