"""Convolution by transforms against the formula, and when `conv2d` chooses it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.errors import AsnetError
from asnet.ops import conv2d

# (N, C_in, C_out, H, W), kernel, stride, zeros at the top, bottom, left and right: sizes around tiles (4, 8
# and 17 - kernel pixels), blocks of tiles, registers and panels of channels; single pixels and channels; more
# zeros than the kernel has pixels; pixels that no window reaches.
CASES = [
    ((1, 1, 1, 1, 1), 3, 1, (1, 1, 1, 1)), ((2, 3, 5, 4, 4), 3, 1, (1, 1, 1, 1)),
    ((1, 16, 64, 7, 38), 3, 1, (1, 1, 1, 1)), ((1, 17, 65, 25, 23), 3, 1, (0, 2, 1, 0)),
    ((3, 40, 15, 9, 30), 3, 1, (0, 0, 0, 0)), ((1, 2, 3, 3, 7), 3, 1, (4, 4, 4, 4)),
    ((1, 100, 130, 8, 7), 3, 1, (1, 1, 1, 1)), ((1, 5, 33, 20, 29), 2, 1, (0, 0, 0, 0)),
    ((1, 1, 1, 2, 2), 3, 2, (0, 1, 0, 1)), ((2, 18, 70, 17, 50), 3, 2, (1, 1, 0, 1)),
    ((1, 33, 5, 8, 9), 3, 2, (0, 1, 1, 1)), ((1, 6, 64, 11, 12), 2, 2, (0, 0, 0, 0)),
    ((1, 16, 20, 13, 31), 4, 1, (0, 0, 0, 0)), ((2, 9, 20, 13, 31), 5, 1, (2, 2, 2, 2)),
    ((1, 1, 64, 30, 27), 7, 1, (0, 0, 0, 0)), ((2, 18, 35, 26, 71), 7, 1, (3, 3, 3, 3)),
    ((1, 70, 66, 12, 11), 7, 1, (0, 6, 6, 0)), ((1, 4, 17, 8, 33), 8, 1, (0, 0, 0, 0)),
]  # fmt: skip

# Largest error in roundings of the sum of absolute products. Measured over twenty seeds: 11 for Winograd's
# method, 222 in bfloat16; 1.2 for Fourier's; 2.2 for torch's direct sums.
ROUNDINGS = {torch.float32: 14, torch.bfloat16: 300, torch.float16: 14}
FOURIER_ROUNDINGS = 2

# Standard deviation of the errors in float32 relative to torch's. Measured: 1.8 for Winograd's method with
# every instruction set, 0.5 for Fourier's.
WINOGRAD_ERRORS, FOURIER_ERRORS = 2.5, 0.6

Border = tuple[int, int, int, int]


def transformed(
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
    pixels = torch.ops.asnet.transform_conv2d(
        x.permute(0, 2, 3, 1), weight.permute(2, 3, 1, 0).float(), bias,
        border[0], border[2], *size, stride, interleave, relu,
    )  # fmt: skip
    return pixels.permute(0, 3, 1, 2)


def formula(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, border: Border = (0, 0, 0, 0)
) -> Tensor:
    """The same by torch's convolution, in float64."""
    padded = F.pad(x.double(), (*border[2:], *border[:2]))
    return F.conv2d(padded, weight.double(), None if bias is None else bias.double(), stride)


def allowed_error(
    exact: Tensor, x: Tensor, weight: Tensor, stride: int = 1, border: Border = (0, 0, 0, 0)
) -> Tensor:
    """The roundings of the sums, and one to the dtype of the maps at the end."""
    products = formula(x.abs(), weight.abs(), None, stride, border).max()
    roundings = FOURIER_ROUNDINGS if weight.shape[2] > 3 else ROUNDINGS[x.dtype]
    return (
        roundings * torch.finfo(torch.float32).eps * products + torch.finfo(x.dtype).eps * exact.abs().max()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("shape", "kernel", "stride", "border"), CASES)
@pytest.mark.usefixtures("poisoned")
def test_result_is_that_of_the_formula(shape, kernel, stride, border, dtype):
    torch.manual_seed(0)
    N, C_in, C_out, H, W = shape
    x = torch.randn(N, C_in, H, W).to(dtype)
    weight = (torch.randn(C_out, C_in, kernel, kernel) / (kernel * C_in**0.5)).to(dtype)
    bias = torch.randn(C_out)
    for with_bias, relu in ((bias, True), (None, False)):
        exact = formula(x, weight, with_bias, stride, border)
        exact = exact.relu() if relu else exact
        result = transformed(x, weight, with_bias, stride, border, relu=relu)
        assert result.dtype == dtype
        assert result.shape == exact.shape
        assert (result - exact).abs().max() <= allowed_error(exact, x, weight, stride, border)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adding_to_a_sum(dtype):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 9, 13, 20).to(dtype), torch.randn(35, 9, 3, 3).to(dtype), torch.randn(35)
    exact = formula(x, weight, bias, 1, (1, 1, 1, 1))
    total = torch.randn(2, 13, 20, 35).to(dtype)
    expected = (exact + total.permute(0, 3, 1, 2)).relu()
    torch.ops.asnet.transform_conv2d_add_(
        total, x.permute(0, 2, 3, 1), weight.permute(2, 3, 1, 0).float(), bias, 1, 1, 1, True
    )
    error = (total.permute(0, 3, 1, 2) - expected).abs().max()
    assert error <= allowed_error(expected, x, weight, 1, (1, 1, 1, 1))


@pytest.mark.parametrize(("kernel", "channels"), [(3, 64), (3, 192), (7, 128)])
@pytest.mark.usefixtures("poisoned")
def test_interleaving_is_moving_channels_into_squares_of_pixels(kernel, channels):
    torch.manual_seed(0)
    x, weight, bias = (
        torch.randn(2, 5, 11, 14),
        torch.randn(channels, 5, kernel, kernel),
        torch.randn(channels),
    )
    plain = transformed(x, weight, bias, relu=True)
    # Ours is in the order (row, column, channel), torch's in the order (channel, row, column).
    squares = plain.unflatten(1, (2, 2, channels // 4)).movedim(3, 1).flatten(1, 3)
    assert torch.equal(transformed(x, weight, bias, relu=True, interleave=2), F.pixel_shuffle(squares, 2))


def test_errors_are_those_that_the_documentation_states():
    """In float32 twice a direct sum for 3x3, half of it for 7x7; in 16 bits that of the last rounding."""
    for kernel, stride, factor in ((3, 1, WINOGRAD_ERRORS), (3, 2, WINOGRAD_ERRORS), (7, 1, FOURIER_ERRORS)):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            torch.manual_seed(0)
            x, weight = torch.rand(1, 64, 50, 50).to(dtype), torch.randn(64, 64, kernel, kernel).to(dtype)
            exact = formula(x, weight, None, stride)
            error = (transformed(x, weight, None, stride).double() - exact).std()
            torchs = (F.conv2d(x, weight, None, stride).double() - exact).std()
            assert error < (factor if dtype == torch.float32 else 1.02) * torchs, (kernel, stride, dtype)


def test_padding_holds_zeros_and_nothing_of_the_neighbouring_image():
    x = torch.full((2, 16, 8, 8), torch.nan)
    x[1] = 1
    weight = torch.ones(16, 16, 3, 3)
    result = transformed(x, weight, border=(1, 1, 1, 1))
    assert result[0].isnan().all()
    assert result[1, 0, 0, 0] == pytest.approx(4 * 16)
    assert result[1, 0, 3, 3] == pytest.approx(9 * 16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(dtype):
    x, weight, bias = torch.randn(2, 9, 8, 16).to(dtype), torch.randn(3, 3, 16, 64), torch.randn(64)
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    operators = torch.ops.asnet
    torch.library.opcheck(
        operators.transform_conv2d.default, (x, weight, bias, 1, 1, 9, 8, 1, 2, True), test_utils=checks
    )
    x, weight, bias = (operand.requires_grad_() for operand in (x, weight, bias))
    torch.library.opcheck(operators.transform_conv2d.default, (x, weight, bias, 1, 1, 9, 8, 1, 1, False))
    x, weight, bias = (operand.detach() for operand in (x, weight, bias))
    torch.library.opcheck(
        operators.transform_conv2d_add_.default,
        (torch.randn(2, 9, 8, 64).to(dtype), x, weight, bias, 1, 1, 1, True),
        test_utils=("test_schema", "test_faketensor"),
    )


@pytest.mark.parametrize("kernel", [3, 7])
def test_bits_do_not_depend_on_the_number_of_threads(kernel):
    x, weight = torch.randn(2, 20, 60, 70), torch.randn(50, 20, kernel, kernel)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(transformed(x, weight, border=(1, 1, 1, 1), relu=True))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_empty_batch():
    assert transformed(torch.empty(0, 3, 8, 9), torch.ones(4, 3, 3, 3)).shape == (0, 4, 6, 7)


ONE = (0, 0, 7, 2, 1, 1)


@pytest.mark.parametrize(
    ("x", "weight", "bias", "window", "words"),
    [
        (torch.ones(2, 3, 4), torch.ones(3, 3, 4, 5), None, ONE, "got 3 dimensions"),
        (torch.ones(1, 9, 4, 4), torch.ones(3, 3, 5, 5), None, ONE, r"\(K, K, 4, C_out\)"),
        (torch.ones(1, 9, 4, 4), torch.ones(3, 5, 4, 5), None, ONE, "3x5, expected a square of 2 to 8"),
        (torch.ones(1, 9, 4, 4), torch.ones(9, 9, 4, 5), None, ONE, "the kernel is 9x9"),
        (torch.ones(1, 9, 4, 4), torch.ones(4, 4, 4, 5), None, (0, 0, 3, 1, 2, 1), "to 3 with stride 2"),
        (torch.ones(1, 9, 4, 4), torch.ones(3, 3, 4, 5), None, (0, 0, 7, 2, 3, 1), "the stride is 3"),
        (torch.ones(1, 9, 4, 4), torch.ones(3, 3, 4, 5), None, (-1, 0, 7, 2, 1, 1), "padding is -1 and 0"),
        (torch.ones(1, 9, 4, 4), torch.ones(3, 3, 4, 5), None, (0, 0, -7, 2, 1, 1), "have -7x2 pixels"),
        (torch.ones(1, 9, 4, 4), torch.ones(3, 3, 4, 48), None, (0, 0, 7, 2, 1, 2), "of 64 channels"),
        (torch.ones(1, 9, 4, 4), torch.ones(3, 3, 4, 64), None, (0, 0, 7, 2, 1, 3), "interleave is 3"),
        (torch.ones(1, 9, 4, 4), torch.ones(3, 3, 4, 5), torch.ones(4), ONE, r"of the shape \(5,\)"),
        (torch.ones(1, 9, 4, 4).double(), torch.ones(3, 3, 4, 5), None, ONE, "must be float32"),
    ],
)  # fmt: skip
def test_the_operator_prints_what_it_refuses(x, weight, bias, window, words):
    with pytest.raises(RuntimeError, match=words):
        torch.ops.asnet.transform_conv2d(x, weight, bias, *window, True)


@pytest.mark.parametrize(
    ("total", "words"),
    [
        (torch.ones(1, 7, 2, 5).double(), "of the dtype of x"),
        (torch.ones(1, 5, 7, 2).permute(0, 2, 3, 1), "must be contiguous"),
        (torch.ones(2, 7, 2, 5), "the sum has 2 images of 5 channels, the convolution 1 of 5"),
        (torch.ones(1, 7, 2, 6), "the sum has 1 images of 6 channels, the convolution 1 of 5"),
    ],
)
def test_adding_prints_what_it_refuses(total, words):
    x, weight = torch.ones(1, 9, 4, 4), torch.ones(3, 3, 4, 5)
    with pytest.raises(RuntimeError, match=words):
        torch.ops.asnet.transform_conv2d_add_(total, x, weight, None, 0, 0, 1, True)


def channels_last(*shape: int) -> Tensor:
    return torch.randn(shape).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_conv2d_agrees_with_torch_and_adds_what_follows(size, gradient, layout):
    torch.manual_seed(0)
    x = torch.randn(2, 64, 70, 66).to(memory_format=layout)
    weight, bias = torch.randn(24, 64, size, size) / (8 * size), torch.randn(24)
    expected = F.conv2d(x, weight, bias)
    addend = torch.randn_like(expected)
    result = conv2d(x, weight.requires_grad_(gradient), bias, relu=True, onto=addend.clone())
    assert result.requires_grad == gradient
    assert result.is_contiguous(memory_format=layout)
    assert (result - (expected + addend).relu()).abs().max() < 1e-5 * expected.abs().max()
    if gradient:
        result.sum().backward()
        assert weight.grad is not None


@pytest.mark.parametrize("stride", [1, (2, 2), (1, 2)])
@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (0, 1, 0, 1), (2, 0, 1, 3)])
def test_conv2d_with_stride_and_uneven_padding(stride, padding):
    torch.manual_seed(0)
    x, weight = channels_last(1, 64, 180, 190), torch.randn(64, 64, 3, 3)
    border = (*padding[2:], *padding[:2])
    exact = formula(x, weight, None, stride, border)
    by_torch = F.conv2d(F.pad(x, padding), weight, None, stride)
    result = conv2d(x, weight, None, stride, padding)
    assert (result - exact).std() < WINOGRAD_ERRORS * (by_torch - exact).std()


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("channels", [24, 64])
@pytest.mark.parametrize("kernel", [1, 3])
def test_conv2d_interleaved(gradient, channels, kernel):
    torch.manual_seed(0)
    x, weight = (
        channels_last(2, 48, 60, 70),
        torch.randn(channels, 48, kernel, kernel, requires_grad=gradient),
    )

    def interleaved(maps: Tensor) -> Tensor:
        squares = maps.relu().unflatten(1, (2, 2, channels // 4)).movedim(3, 1).flatten(1, 3)
        return F.pixel_shuffle(squares, 2)

    exact, by_torch = interleaved(formula(x, weight)), interleaved(F.conv2d(x, weight))
    result = conv2d(x, weight, None, relu=True, interleave=True)
    assert result.requires_grad == gradient
    assert (result - exact).std() < WINOGRAD_ERRORS * (by_torch - exact).std()


def test_conv2d_in_float64_stays_exact():
    x, weight = channels_last(1, 64, 80, 90).double(), torch.randn(64, 64, 3, 3).double()
    assert torch.equal(conv2d(x, weight, None, padding=(1,) * 4), F.conv2d(x, weight, padding=1))


def test_conv2d_under_autocast():
    torch.manual_seed(0)
    x, weight, bias = channels_last(1, 64, 120, 130), torch.randn(64, 64, 3, 3), torch.randn(64)
    exact = F.conv2d(x.bfloat16().double(), weight.bfloat16().double(), bias.double(), padding=1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        result = conv2d(x, weight, bias, padding=(1,) * 4)
    assert result.dtype == torch.bfloat16
    assert (result.double() - exact).abs().max() < 2 * torch.finfo(torch.bfloat16).eps * exact.abs().max()


def test_compiled_conv2d():
    x, weight = channels_last(1, 64, 80, 90), torch.randn(64, 64, 3, 3)
    with torch.no_grad():
        compiled = torch.compile(conv2d, backend="eager", fullgraph=True)
        assert torch.equal(compiled(x, weight, None), conv2d(x, weight, None))


# As CASES, with stride 1 and less padding than the kernel has pixels.
DERIVATIVE_CASES = [
    ((1, 1, 1, 1, 1), 3, (1, 1, 1, 1)), ((2, 3, 5, 4, 4), 3, (1, 1, 1, 1)),
    ((1, 17, 65, 25, 23), 3, (0, 2, 1, 0)), ((3, 40, 15, 9, 30), 3, (0, 0, 0, 0)),
    ((1, 2, 3, 3, 7), 3, (2, 2, 2, 2)), ((2, 8, 9, 46, 50), 3, (1, 1, 1, 1)),
    ((1, 5, 33, 20, 29), 2, (0, 0, 1, 1)), ((2, 9, 20, 13, 31), 5, (2, 2, 2, 2)),
    ((1, 4, 17, 12, 33), 7, (3, 0, 3, 6)),
]  # fmt: skip


def derivatives(
    convolve: Callable[..., Tensor], operands: tuple[Tensor, ...], gradient: Tensor
) -> list[Tensor]:
    """Gradients of all operands, and of the sum of their squares."""
    operands = tuple(operand.detach().requires_grad_() for operand in operands)
    first = torch.autograd.grad(convolve(*operands), operands, gradient, create_graph=True)
    second = torch.autograd.grad(sum((part**2).sum() for part in first), operands[:2])
    return [*first, *second]


def errors(results: list[Tensor], exact: list[Tensor]) -> list[float]:
    """Root mean square errors, relative to the largest absolute value."""
    pairs = zip(results, exact, strict=True)
    return [
        float((result - right).detach().square().mean().sqrt() / right.detach().abs().max())
        for result, right in pairs
    ]


@pytest.mark.parametrize(("shape", "kernel", "border"), DERIVATIVE_CASES)
@pytest.mark.usefixtures("poisoned")
def test_derivatives_of_the_operator_are_those_of_the_formula(shape, kernel, border):
    torch.manual_seed(0)
    N, C_in, C_out, H, W = shape
    operands = (
        torch.randn(N, C_in, H, W),
        torch.randn(C_out, C_in, kernel, kernel) / (kernel * C_in**0.5),
        torch.randn(C_out),
    )
    gradient = torch.randn(N, C_out, H + sum(border[:2]) - kernel + 1, W + sum(border[2:]) - kernel + 1)
    exact = derivatives(
        lambda *tensors: formula(*tensors, 1, border),
        tuple(operand.double() for operand in operands),
        gradient.double(),
    )
    results = derivatives(lambda *tensors: transformed(*tensors, 1, border), operands, gradient)
    for result, operand in zip(results, [*operands, *operands[:2]], strict=True):
        assert result.dtype == torch.float32
        assert result.shape == operand.shape
    assert max(errors(results, exact)) < 4 * torch.finfo(torch.float32).eps


def test_gradients_in_16_bits_have_the_dtype_of_their_operand():
    torch.manual_seed(0)
    x = torch.randn(2, 8, 9, 7, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.randn(6, 8, 3, 3, requires_grad=True)
    gradients = torch.autograd.grad(transformed(x, weight).square().sum(), (x, weight))
    exact = torch.autograd.grad(formula(x, weight).square().sum(), (x, weight))
    for gradient, right in zip(gradients, exact, strict=True):
        assert gradient.dtype == right.dtype
        assert (gradient - right).abs().max() < 0.02 * right.abs().max()


def test_gradients_of_an_empty_batch_are_zeros():
    x, weight = torch.empty(0, 3, 8, 9, requires_grad=True), torch.ones(4, 3, 3, 3, requires_grad=True)
    of_x, of_weight = torch.autograd.grad(transformed(x, weight).sum(), (x, weight))
    assert of_x.shape == x.shape
    assert torch.equal(of_weight, torch.zeros_like(weight))


@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (0, 2, 1, 0), (2, 2, 2, 2)])
def test_conv2d_in_training_is_as_accurate_as_torch(padding):
    torch.manual_seed(0)
    operands = (channels_last(2, 48, 61, 67), torch.randn(52, 48, 3, 3) / 20, torch.randn(52))
    border = (*padding[2:], *padding[:2])
    gradient = torch.randn_like(conv2d(*operands, padding=padding))
    exact = derivatives(
        lambda *tensors: formula(*tensors, 1, border),
        tuple(operand.double() for operand in operands),
        gradient.double(),
    )
    by_torch = derivatives(lambda x, *tensors: F.conv2d(F.pad(x, padding), *tensors), operands, gradient)
    results = derivatives(lambda *tensors: conv2d(*tensors, padding=padding), operands, gradient)
    for error, torchs in zip(errors(results, exact), errors(by_torch, exact), strict=True):
        assert error < 3.5 * torchs


def test_gradients_need_no_contiguous_memory():
    torch.manual_seed(0)
    x, weight = channels_last(1, 48, 60, 64), torch.randn(48, 48, 3, 3)
    whole = derivatives(lambda x, w: conv2d(x, w, None), (x, weight), torch.ones(1, 48, 58, 62))
    expanded = derivatives(
        lambda x, w: conv2d(x, w, None), (x, weight), torch.ones(1, 1, 1, 1).expand(1, 48, 58, 62)
    )
    for one, other in zip(whole, expanded, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("stride", "interleave", "relu", "top"),
    [(2, 1, False, 1), (1, 2, False, 1), (1, 1, True, 1), (1, 1, False, 3)],
)
def test_derivatives_that_the_operator_lacks_are_refused_by_name(stride, interleave, relu, top):
    x, weight = torch.randn(1, 8, 8, 4, requires_grad=True), torch.randn(3, 3, 4, 64)
    result = torch.ops.asnet.transform_conv2d(x, weight, None, top, 1, 3, 3, stride, interleave, relu)
    with pytest.raises(AsnetError, match=r"transform_conv2d is inference-only with a stride"):
        result.sum().backward()
