"""act((x + c) * (1 + m) + b), forward and backward, against the formula in float64."""

import itertools

import pytest
import torch
from accuracy import assert_as_accurate
from half_precision import check_every_half_precision_number
from torch import Tensor

from asnet.errors import AsnetError, InputError
from asnet.ops import guided_modulation, reference

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
FORMATS = (torch.contiguous_format, torch.channels_last)
# Odd sizes, single channels and pixels, channel counts around the register and the 64 of channels-last rows,
# maps longer than a piece of work, empty ones.
SHAPES = [
    (2, 3, 7, 5), (1, 1, 1, 1), (3, 17, 1, 1), (2, 24, 33, 31), (2, 64, 9, 9), (1, 70, 13, 11), (1, 1, 5, 9),
    (2, 128, 40, 40), (1, 513, 3, 3), (1, 2, 200, 180), (0, 3, 4, 4), (2, 3, 0, 4),
]  # fmt: skip
PRESENT = list(itertools.product((True, False), repeat=3))  # of multiplier, shift, conv_bias
# Shape, parameters that are present, activation: every shape with all parameters, one with every subset.
COMBINATIONS = [
    *itertools.product(SHAPES, [(True, True, True)], ("relu", None)),
    *itertools.product([(2, 24, 33, 31)], PRESENT, ("relu", None)),
]


def make_parameters(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    present: tuple[bool, ...] = (True, True, True),
    device: torch.device | None = None,
) -> list[Tensor | None]:
    """Multiplier, shift and conv_bias for maps of `shape`."""
    N, C = shape[:2]
    parameters = [torch.randn(size, device=device) for size in ((N, C), (N, C), (C,))]
    return [p.to(dtype) if wanted else None for p, wanted in zip(parameters, present, strict=True)]


def apply(function, x, parameters, activation):
    multiplier, shift, conv_bias = parameters
    return function(x, multiplier, shift, conv_bias=conv_bias, activation=activation)


def eager(x, multiplier, shift, *, conv_bias, activation):
    """Separate torch operations, every intermediate rounded to the dtype of x."""
    if conv_bias is not None:
        x = x + conv_bias[:, None, None]
    if multiplier is not None:
        x = x * (1 + multiplier[:, :, None, None])
    if shift is not None:
        x = x + shift[:, :, None, None]
    return torch.relu(x) if activation == "relu" else x


def in_dtype(tensors, dtype):
    return [None if t is None else t.detach().to(dtype).requires_grad_(t.requires_grad) for t in tensors]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.usefixtures("poisoned")
def test_forward_is_as_accurate_as_torch(
    device: torch.device, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    for shape, present, activation in COMBINATIONS:
        x = torch.randn(shape, device=device).to(dtype=dtype, memory_format=memory_format)
        parameters = make_parameters(shape, dtype, present, device)
        result = apply(guided_modulation, x, parameters, activation)
        assert result.dtype == dtype
        assert result.stride() == x.stride()
        exact = apply(
            reference.guided_modulation, x.double(), in_dtype(parameters, torch.float64), activation
        )
        assert_as_accurate(result, apply(eager, x, parameters, activation), exact)


def sizes_of_partial_sums(
    x: Tensor, parameters: list[Tensor | None], activation: str | None, upstream: Tensor
) -> list[float]:
    """Size that the partial sums of each parameter's gradient reach, with terms of random signs.

    The terms are the gradient of a parameter expanded to the shape of x.
    """
    maps = [
        None if t is None else t.detach().double()[..., None, None].expand(x.shape).clone().requires_grad_()
        for t in parameters
    ]
    given = [t for t in maps if t is not None]
    if x.numel() == 0 or not given:
        return [0.0] * len(given)
    m, b, c = (0 if t is None else t for t in maps)
    z = (x.detach().double() + c) * (1 + m) + b
    terms = torch.autograd.grad(torch.relu(z) if activation == "relu" else z, given, upstream.double())
    dims = [dims for t, dims in zip(maps, ((2, 3), (2, 3), (0, 2, 3)), strict=True) if t is not None]
    return [float(t.square().sum(d).sqrt().max()) for t, d in zip(terms, dims, strict=True)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.usefixtures("poisoned")
def test_gradients_are_as_accurate_as_torch(
    device: torch.device, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(1)
    for shape, present, activation in COMBINATIONS:
        x = torch.randn(shape, device=device).to(dtype=dtype, memory_format=memory_format)
        parameters = make_parameters(shape, dtype, present, device)
        upstream = torch.randn(shape, device=device).to(dtype)
        # Where the modulated element is nearly zero, rounding decides the mask of the ReLU.
        modulated = apply(reference.guided_modulation, x.double(), in_dtype(parameters, torch.float64), None)
        upstream[modulated.abs() < 1e-5] = 0
        arguments = [t.requires_grad_() if t is not None else None for t in (x, *parameters)]

        def gradients(function, arguments, upstream, activation=activation):
            result = apply(function, arguments[0], arguments[1:], activation)
            return torch.autograd.grad(result, [t for t in arguments if t is not None], upstream)

        ours = gradients(guided_modulation, arguments, upstream)
        torchs = gradients(eager, arguments, upstream)
        exact = gradients(reference.guided_modulation, in_dtype(arguments, torch.float64), upstream.double())
        if activation == "relu":  # without it and without m, only the upstream gradient is read
            assert ours[0].stride() == x.stride()
        sizes = [0.0, *sizes_of_partial_sums(x, parameters, activation, upstream)]
        for result, other, truth, size in zip(ours, torchs, exact, sizes, strict=True):
            assert result.dtype == dtype
            assert_as_accurate(result, other, truth, partial_sums=size)


@pytest.mark.parametrize("present", PRESENT, ids=str)
def test_gradcheck(device: torch.device, present: tuple[bool, ...]) -> None:
    torch.manual_seed(2)
    shape = (2, 3, 3, 2)
    for memory_format, activation in itertools.product(FORMATS, ("relu", None)):
        x = torch.randn(shape, dtype=torch.float64, device=device).to(memory_format=memory_format)
        parameters = make_parameters(shape, torch.float64, present, device)
        arguments = [t.requires_grad_() for t in (x, *parameters) if t is not None]

        def function(x, *given, activation=activation):
            rest = iter(given)
            return apply(guided_modulation, x, [next(rest) if p else None for p in present], activation)

        assert torch.autograd.gradcheck(function, arguments, fast_mode=True)


def test_one_blur_kernel_guides_the_whole_batch(device: torch.device) -> None:
    torch.manual_seed(3)
    options = {"dtype": torch.float64, "device": device, "requires_grad": True}
    x = torch.randn(3, 5, 4, 4, **options)
    one = [torch.randn(1, 5, **options) for _ in range(2)]
    repeated = [t.detach().repeat(3, 1).requires_grad_() for t in one]
    result, expected = guided_modulation(x, *one), guided_modulation(x, *repeated)
    assert torch.equal(result, expected)
    result.square().sum().backward()
    expected.square().sum().backward()
    for narrow, wide in zip(one, repeated, strict=True):
        torch.testing.assert_close(narrow.grad, wide.grad.sum(0, keepdim=True))


@pytest.mark.parametrize(
    "view", ["every second map", "inner pixels", "transposed", "expanded", "channels-last crop"]
)
def test_strided_inputs(device: torch.device, view: str) -> None:
    torch.manual_seed(4)
    base = torch.randn(2, 8, 9, 9, device=device)
    x = {
        "every second map": base[:, ::2],
        "inner pixels": base[:, :4, 1:-2, 2:-1],
        "transposed": base[:, :4].contiguous().transpose(2, 3),
        "expanded": base[:1, :4].expand(2, 4, 9, 9),
        "channels-last crop": base.to(memory_format=torch.channels_last)[:, :4, 1:-2],
    }[view]
    x = x.requires_grad_()
    multiplier, shift, conv_bias = make_parameters(tuple(x.shape), torch.float32, device=device)
    multiplier = multiplier.t().contiguous().t().requires_grad_()
    result = guided_modulation(x, multiplier, shift, conv_bias=conv_bias)
    assert result.is_contiguous()
    expected = reference.guided_modulation(x, multiplier, shift, conv_bias=conv_bias)
    torch.testing.assert_close(result, expected)
    upstream = torch.randn(2, 9, 9, 8, device=device)[:, : x.shape[3], : x.shape[2], : x.shape[1]].permute(
        0, 3, 2, 1
    )
    ours = torch.autograd.grad(result, (x, multiplier), upstream)
    torch.testing.assert_close(ours, torch.autograd.grad(expected, (x, multiplier), upstream))


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_bits_do_not_depend_on_threads(memory_format: torch.memory_format) -> None:
    torch.manual_seed(5)
    x = torch.randn(2, 24, 150, 131).to(memory_format=memory_format).requires_grad_()
    parameters = [t.requires_grad_() for t in make_parameters(tuple(x.shape), torch.float32)]
    upstream = torch.randn_like(x)

    def run() -> tuple[Tensor, ...]:
        result = apply(guided_modulation, x, parameters, "relu")
        return (result, *torch.autograd.grad(result, (x, *parameters), upstream))

    threads = torch.get_num_threads()
    try:
        runs = []
        for count in (1, 2, 3, 1):
            torch.set_num_threads(count)
            runs.append(run())
    finally:
        torch.set_num_threads(threads)
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


@pytest.mark.parametrize("guided", [True, False])
def test_saves_one_map_for_the_backward_pass(guided: bool) -> None:
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    multiplier = torch.randn(2, 3, requires_grad=True) if guided else None
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        result = guided_modulation(x, multiplier, torch.randn(2, 3, requires_grad=True))
    (kept,) = (t for t in saved if t.dim() == 4)
    # Saving the output costs nothing: the convolution that follows saves it too.
    assert kept.data_ptr() == (x if guided else result).data_ptr()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_and_infinity_pass_as_in_torch(device: torch.device, dtype: torch.dtype) -> None:
    numbers = [float("nan"), float("inf"), -float("inf"), -1.0, -0.0, 2.0]
    values = torch.tensor(numbers, dtype=dtype, device=device)
    for shape in ((1, 6, 1, 1), (6, 1, 1, 1), (1, 1, 2, 3)):
        for activation in ("relu", None):
            result = guided_modulation(values.view(shape), None, None, activation=activation).flatten()
            expected = torch.relu(values) if activation else values
            assert torch.equal(
                result.nan_to_num(nan=7.0, posinf=8.0, neginf=9.0), expected.nan_to_num(7.0, 8.0, 9.0)
            )


def test_every_half_precision_number(device: torch.device) -> None:
    check_every_half_precision_number(device)


def operator_arguments(device: torch.device, *, gradients: bool) -> tuple[Tensor, list[Tensor]]:
    torch.manual_seed(6)
    x = torch.randn(2, 3, 5, 4, device=device, requires_grad=gradients)
    parameters = make_parameters((2, 3, 5, 4), torch.float32, device=device)
    return x, [t.requires_grad_(gradients) for t in parameters]


def test_opcheck(device: torch.device) -> None:
    """One full check of each operator; otherwise only schema and fake tensors, which take less time."""
    operators = torch.ops.asnet
    quick = {"test_utils": ("test_schema", "test_faketensor")}
    x, (m, b, c) = operator_arguments(device, gradients=True)
    torch.library.opcheck(operators.guided_modulation, (x, m, b, c, True))
    channels_last = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    torch.library.opcheck(operators.guided_modulation, (channels_last, None, b, None, True), **quick)
    torch.library.opcheck(operators.guided_modulation, (x[:, :, 1:], m, None, c, False), **quick)
    x, (m, b, c) = operator_arguments(device, gradients=False)
    channels_last = x.to(memory_format=torch.channels_last)
    torch.library.opcheck(operators.guided_modulation_, (channels_last.clone(), m, b, c, True))
    torch.library.opcheck(operators.guided_modulation_, (x.clone(), m, b, c, True), **quick)
    grad, backward = torch.randn_like(x), operators.guided_modulation_backward
    torch.library.opcheck(backward, (grad, channels_last, None, m, b, c, True))
    torch.library.opcheck(backward, (grad, None, channels_last, m, b, c, True), **quick)
    torch.library.opcheck(backward, (grad, None, None, m, b, c, False), **quick)


def test_compiles_as_one_graph(device: torch.device) -> None:
    x, (m, b, c) = operator_arguments(device, gradients=True)
    compiled = torch.compile(guided_modulation, fullgraph=True, backend="aot_eager")
    result, expected = compiled(x, m, b, conv_bias=c), guided_modulation(x, m, b, conv_bias=c)
    assert torch.equal(result, expected)
    ours = torch.autograd.grad(result.sum(), (x, m, b, c))
    assert all(map(torch.equal, ours, torch.autograd.grad(expected.sum(), (x, m, b, c))))


def test_parameters_may_be_float32_beside_half_precision_maps(device: torch.device) -> None:
    x = torch.randn(1, 4, 3, 3, dtype=torch.bfloat16, device=device, requires_grad=True)
    m, b, c = (t.requires_grad_() for t in make_parameters((1, 4), torch.float32, device=device))
    with torch.autocast(device.type, dtype=torch.bfloat16):
        result = guided_modulation(x, m, b, conv_bias=c)
    assert result.dtype == torch.bfloat16
    result.sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert {t.grad.dtype for t in (m, b, c)} == {torch.float32}


def test_second_derivative_is_refused_by_name() -> None:
    x = torch.randn(1, 2, 3, 3, requires_grad=True)
    m = torch.randn(1, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(guided_modulation(x, m, None).sum(), x, create_graph=True)
    with pytest.raises(AsnetError, match="guided_modulation has no double backward"):
        gradient.sum().backward()


X = torch.zeros(2, 3, 4, 4)
PARAMETER = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            (X[0], PARAMETER, PARAMETER),
            r"x must be feature maps of shape \(N, C, H, W\), got the shape \(3, 4, 4\)",
        ),
        ((X.int(), PARAMETER, PARAMETER), "x must be float32, .* got torch.int32"),
        ((X, PARAMETER[:, :2], None), r"multiplier must have the shape \(2, 3\) or \(1, 3\), got \(2, 2\)"),
        ((X, None, torch.zeros(3, 3)), r"shift must have the shape \(2, 3\) or \(1, 3\), got \(3, 3\)"),
        ((X, None, PARAMETER[0]), r"shift must have the shape .* got \(3,\)"),
        ((X, None, None, torch.zeros(4)), r"conv_bias must have the shape \(3,\), got \(4,\)"),
        (
            (X, PARAMETER.double(), None),
            "multiplier must be .* no wider than torch.float32 .* got torch.float64",
        ),
        ((X, PARAMETER.int(), None), "multiplier must be a floating-point tensor .* got torch.int32"),
        ((X, PARAMETER.to("meta"), None), "multiplier is on meta, the feature maps are on cpu"),
        ((X, None, None, None, "tanh"), "activation must be \"relu\" or None, got 'tanh'"),
    ],
)
def test_bad_input_is_named(arguments: tuple, sentence: str) -> None:
    x, multiplier, shift, conv_bias, activation = (*arguments, *(None, "relu")[len(arguments) - 3 :])
    with pytest.raises(InputError, match=sentence):
        guided_modulation(x, multiplier, shift, conv_bias=conv_bias, activation=activation)


def test_operators_check_what_reaches_them() -> None:
    operators = torch.ops.asnet
    with pytest.raises(RuntimeError, match="shift has size 2 in dimension 1, x asks for 3"):
        operators.guided_modulation(X, None, PARAMETER[:, :2], None, True)
    with pytest.raises(RuntimeError, match="multiplier must have dtype float32"):
        operators.guided_modulation(X, PARAMETER.double(), None, None, True)
    with pytest.raises(RuntimeError, match="x must be contiguous or channels-last"):
        operators.guided_modulation_(X.clone()[:, :, ::2], None, None, None, True)
    with pytest.raises(RuntimeError, match="the ReLU needs x or output"):
        operators.guided_modulation_backward(X, None, None, None, None, None, True)
