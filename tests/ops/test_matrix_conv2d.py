"""Convolution on matrix units against the formula, and when `conv2d` chooses it.

Processors without matrix units compute the same with vectors; so do those with them under ASNET_ISA=avx2, see
test_instruction_sets.py.
"""

import pytest
import torch
from test_transform_conv2d import CASES, Border, formula
from torch import Tensor
from torch.nn import functional as F

from asnet.errors import AsnetError
from asnet.ops import _extension, conv2d
from asnet.ops.conv2d_operators import run_operator

# Besides tiles and panels of the transforms: widths around a block of 256 pixels, around 16 and 32 of them,
# rows enough for several blocks; windows that are unfolded, and channels around a depth of 32.
SIZES = [
    *CASES,
    ((1, 32, 32, 3, 257), 3, 1, (1, 1, 1, 1)), ((1, 33, 16, 5, 300), 3, 2, (0, 1, 0, 1)),
    ((1, 16, 31, 40, 33), 5, 2, (2, 2, 2, 2)), ((2, 17, 48, 37, 16), 8, 2, (3, 4, 3, 4)),
    ((1, 64, 33, 34, 17), 1, 1, (0, 0, 0, 0)), ((1, 3, 40, 70, 270), 3, 1, (1, 1, 1, 1)),
    ((1, 24, 96, 9, 40), 3, 1, (5, 0, 0, 5)), ((3, 1, 20, 11, 3), 3, 1, (1, 1, 1, 1)),
]  # fmt: skip

# Sums are in float32, in another order than torch's.
ROUNDINGS = 4


def by_units(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    border: Border = (0, 0, 0, 0),
    *,
    relu: bool = False,
    interleave: int = 1,
) -> Tensor:
    """The operator with everything in torch's order of dimensions; border: top, bottom, left, right."""
    size = (
        (length + sum(zeros) - weight.shape[2]) // stride + 1
        for length, zeros in zip(x.shape[2:], (border[:2], border[2:]), strict=True)
    )
    pixels = torch.ops.asnet.matrix_conv2d(
        x.permute(0, 2, 3, 1), weight.permute(2, 3, 1, 0).float(), bias,
        border[0], border[2], *size, stride, interleave, relu,
    )  # fmt: skip
    return pixels.permute(0, 3, 1, 2)


def random_operands(shape: tuple[int, ...], kernel: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    N, C_in, C_out, H, W = shape
    weight = torch.randn(C_out, C_in, kernel, kernel) / (kernel * C_in**0.5)
    return torch.randn(N, C_in, H, W).bfloat16(), weight.bfloat16(), torch.randn(C_out)


def allowed_error(exact: Tensor, products: Tensor) -> Tensor:
    """Of sums in float32, and the last rounding."""
    return (
        ROUNDINGS * torch.finfo(torch.float32).eps * products + torch.finfo(torch.bfloat16).eps * exact.abs()
    )


@pytest.mark.parametrize(("shape", "kernel", "stride", "border"), SIZES)
@pytest.mark.usefixtures("poisoned")
def test_result_is_that_of_the_formula(shape, kernel, stride, border):
    x, weight, bias = random_operands(shape, kernel)
    products = formula(x.abs(), weight.abs(), bias.abs(), stride, border)
    for with_bias, relu in ((bias, True), (None, False)):
        exact = formula(x, weight, with_bias, stride, border)
        exact = exact.relu() if relu else exact
        result = by_units(x, weight, with_bias, stride, border, relu=relu)
        assert result.dtype == torch.bfloat16
        assert result.shape == exact.shape
        assert ((result - exact).abs() <= allowed_error(exact, products)).all()


def test_adding_to_a_sum():
    x, weight, bias = random_operands((2, 40, 35, 13, 50), 3)
    total = torch.randn(2, 13, 50, 35).bfloat16()
    expected = formula(x, weight, bias, 1, (1, 1, 1, 1)) + total.permute(0, 3, 1, 2)
    products = formula(x.abs(), weight.abs(), bias.abs(), 1, (1, 1, 1, 1)) + total.permute(0, 3, 1, 2).abs()
    torch.ops.asnet.matrix_conv2d_add_(
        total, x.permute(0, 2, 3, 1), weight.permute(2, 3, 1, 0).float(), bias, 1, 1, 1, True
    )
    error = (total.permute(0, 3, 1, 2) - expected.relu()).abs()
    assert (error <= allowed_error(expected.relu(), products)).all()


@pytest.mark.parametrize(("kernel", "channels"), [(3, 64), (3, 192), (7, 128)])
@pytest.mark.usefixtures("poisoned")
def test_interleaving_is_moving_channels_into_squares_of_pixels(kernel, channels):
    x, weight, bias = random_operands((2, 5, channels, 11, 44), kernel)
    plain = by_units(x, weight, bias, relu=True)
    # Ours is in the order (row, column, channel), torch's in the order (channel, row, column).
    squares = plain.unflatten(1, (2, 2, channels // 4)).movedim(3, 1).flatten(1, 3)
    assert torch.equal(by_units(x, weight, bias, relu=True, interleave=2), F.pixel_shuffle(squares, 2))


@pytest.mark.parametrize("channels", [64, 80])
@pytest.mark.usefixtures("poisoned")
def test_results_too_large_for_the_caches_are_those_of_the_formula(channels):
    x, weight, bias = random_operands((1, 2, channels, 257, 258), 3)
    border = (1, 1, 1, 1)
    products = formula(x.abs(), weight.abs(), bias.abs(), 1, border)
    exact = formula(x, weight, bias, 1, border)
    plain = by_units(x, weight, bias, border=border)
    assert ((plain - exact).abs() <= allowed_error(exact, products)).all()
    if channels % 64 == 0:
        squares = plain.unflatten(1, (2, 2, channels // 4)).movedim(3, 1).flatten(1, 3)
        assert torch.equal(
            by_units(x, weight, bias, border=border, interleave=2), F.pixel_shuffle(squares, 2)
        )


@pytest.mark.parametrize("channels", [2, 16, 24, 32])
def test_padding_holds_zeros_and_nothing_of_the_neighbouring_image(channels):
    x = torch.full((3, channels, 8, 40), torch.nan).bfloat16()
    x[1] = 1
    result = by_units(x, torch.ones(16, channels, 3, 3).bfloat16(), border=(1, 1, 1, 1))
    assert result[::2].isnan().all()
    assert result[1, 0, 0, 0] == result[1, 0, 7, 39] == 4 * channels
    assert result[1, 0, 3, 3] == 9 * channels


def test_infinities_and_nan_pass_through_the_relu():
    x = torch.zeros(1, 32, 4, 40).bfloat16()
    x[0, 0, 1, 3], x[0, 0, 2, 30] = torch.inf, torch.nan
    result = by_units(x, torch.ones(16, 32, 1, 1).bfloat16(), relu=True)
    assert result[0, :, 1, 3].isposinf().all()
    assert result[0, :, 2, 30].isnan().all()
    assert result.isfinite().sum() == (4 * 40 - 2) * 16


def test_opcheck():
    x, weight, bias = torch.randn(2, 9, 8, 16).bfloat16(), torch.randn(3, 3, 16, 64), torch.randn(64)
    torch.library.opcheck(
        torch.ops.asnet.matrix_conv2d.default,
        (x, weight, bias, 1, 1, 9, 8, 1, 2, True),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )
    torch.library.opcheck(
        torch.ops.asnet.matrix_conv2d_add_.default,
        (torch.randn(2, 9, 8, 64).bfloat16(), x, weight, bias, 1, 1, 1, True),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_bits_do_not_depend_on_the_number_of_threads():
    x, weight, _ = random_operands((2, 20, 50, 60, 300), 3)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(by_units(x, weight, border=(1, 1, 1, 1), relu=True))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_maps_are_added_to_their_own_convolution():
    x, weight, bias = random_operands((2, 32, 32, 40, 37), 3)
    wide = x.to(memory_format=torch.channels_last)
    arguments = {"relu": False, "interleave": False}
    apart, itself = (
        run_operator("matrix_conv2d", wide, weight, bias, 1, (1, 1, 1, 1), onto=onto, **arguments)
        for onto in (wide.clone(memory_format=torch.channels_last), wide)
    )
    assert torch.equal(apart, itself)


def test_empty_batch():
    x, weight = torch.empty(0, 3, 8, 9).bfloat16(), torch.ones(4, 3, 3, 3).bfloat16()
    assert by_units(x, weight).shape == (0, 4, 6, 7)


@pytest.mark.parametrize(
    ("dtype", "kernel", "words"),
    [
        (torch.float32, 3, "feature maps must be bfloat16"),
        (torch.bfloat16, 9, "matrix_conv2d: the kernel is 9x9, expected a square of 1 to 8 with stride 2"),
    ],
)
def test_the_operator_prints_what_it_refuses(dtype, kernel, words):
    with pytest.raises(RuntimeError, match=words):
        by_units(torch.ones(1, 4, 9, 9).to(dtype), torch.ones(4, 4, kernel, kernel), None, 2)


def test_a_derivative_of_the_operator_itself_is_refused_by_name():
    x = torch.randn(1, 4, 8, 8).bfloat16().requires_grad_()
    with pytest.raises(AsnetError, match=r"matrix_conv2d and .* are inference-only"):
        by_units(x, torch.ones(4, 4, 3, 3)).sum().backward()


@pytest.mark.parametrize("units", ["asnet", "torch", "none"])
def test_large_convolutions_in_bfloat16_use_matrix_units_if_there_are_any(monkeypatch, units):
    monkeypatch.setattr("asnet.ops.matrix_conv2d._HAS_MATRIX_UNITS", units == "asnet")
    monkeypatch.setattr(_extension, "has_matrix_units", lambda: units == "asnet")
    monkeypatch.setattr("asnet.ops.transform_conv2d._TORCH_HAS_MATRIX_UNITS", units != "none")
    monkeypatch.setattr(_extension, "torch_has_matrix_units", lambda: units != "none")
    x, weight, _ = random_operands((1, 128, 128, 120, 128), 3)
    wide = x.to(memory_format=torch.channels_last)
    for maps, chosen in (
        (wide, {"asnet": "matrix", "torch": "torch", "none": "transform"}),
        # Too small for the matrix units.
        (x[..., :50].contiguous(memory_format=torch.channels_last), {"none": "transform"}),
        (wide.half(), {"none": "transform"}),
    ):
        taps, border = weight.to(maps.dtype), (1, 1, 1, 1)
        name = chosen.get(units, "torch")
        if name == "torch":
            expected = F.conv2d(maps, taps, padding=1)
        else:
            expected = run_operator(
                f"{name}_conv2d", maps, taps, None, 1, border, relu=False, onto=None, interleave=False
            )
        assert torch.equal(conv2d(maps, taps, None, padding=border), expected), name
    # With stride 2, torch copies maps that are padded on one side only.
    if units == "asnet":
        border = (0, 1, 0, 1)
        expected = run_operator(
            "matrix_conv2d", wide, weight, None, 2, border, relu=False, onto=None, interleave=False
        )
        assert torch.equal(conv2d(wide, weight, None, 2, border), expected)
    words = {"asnet": "kernels of asnet for AMX", "torch": "operations of torch", "none": "there is no AMX"}
    assert words[units] in _extension.describe()["convolutions in 16 bits"]
