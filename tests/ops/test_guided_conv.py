"""Guided convolutions against a convolution followed by the formula."""

import itertools

import pytest
import torch
from accuracy import assert_as_accurate
from torch import Tensor

from asnet.errors import InputError
from asnet.ops import guided_conv2d, guided_pointwise_conv2d, reference

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
FORMATS = (torch.contiguous_format, torch.channels_last)
GUIDES = ["both", "multiplier", "shift", "none"]


def make_guides(
    kind: str, count: int, channels: int, dtype: torch.dtype, device: torch.device
) -> list[Tensor | None]:
    """Multiplier and shift for `count` blur kernels."""
    multiplier, shift = torch.randn(2, count, channels, device=device).to(dtype)
    return [
        multiplier if kind in ("both", "multiplier") else None,
        shift if kind in ("both", "shift") else None,
    ]


def double(tensors):
    return [None if t is None else t.detach().double().requires_grad_(t.requires_grad) for t in tensors]


def gradients(function, arguments, upstream, **options):
    wanted = [t for t in arguments if t is not None and t.requires_grad]
    return torch.autograd.grad(function(*arguments, **options), wanted, upstream)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("kernels", [1, 2])
def test_inference(
    device: torch.device, dtype: torch.dtype, memory_format: torch.memory_format, kernels: int
) -> None:
    """One blur kernel folds into the weights, several do not; both give the formula in the input's layout."""
    torch.manual_seed(0)
    for guide, activation, has_bias in itertools.product(GUIDES, ("relu", None), (True, False)):
        x = torch.randn(2, 5, 9, 7, device=device).to(dtype=dtype, memory_format=memory_format)
        weight, bias = (torch.randn(size, device=device).to(dtype) for size in ((8, 5, 3, 3), (8,)))
        guides = make_guides(guide, kernels, 8, dtype, device)
        arguments = [x, weight, bias if has_bias else None, *guides]
        before = [None if t is None else t.clone() for t in arguments]
        for stride, padding in ((1, 1), (2, 0), ((1, 2), (2, 1))):
            options = {"stride": stride, "padding": padding, "activation": activation}
            result = guided_conv2d(*arguments, **options)
            assert result.dtype == dtype
            assert result.is_contiguous(memory_format=memory_format)
            exact = reference.guided_conv2d(*double(arguments), **options)
            assert_as_accurate(result, reference.guided_conv2d(*arguments, **options), exact)
        for argument, copy in zip(arguments, before, strict=True):
            assert argument is None or torch.equal(argument, copy)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("kernels", [1, 2])
def test_addition_comes_before_the_activation(
    device: torch.device, dtype: torch.dtype, memory_format: torch.memory_format, kernels: int
) -> None:
    torch.manual_seed(9)
    for activation, stride in itertools.product(("relu", None), (1, 2)):
        x = torch.randn(2, 5, 9, 7, device=device).to(dtype=dtype, memory_format=memory_format)
        weight, bias = (torch.randn(size, device=device).to(dtype) for size in ((8, 5, 3, 3), (8,)))
        arguments = [x, weight, bias, *make_guides("both", kernels, 8, dtype, device)]
        options = {"stride": stride, "padding": 1, "activation": activation}
        onto = 3 * torch.randn_like(reference.guided_conv2d(*arguments, **options))
        exact = reference.guided_conv2d(*double(arguments), onto=onto.double(), **options)
        in_turn = reference.guided_conv2d(*arguments, onto=onto, **options)
        learning = [t.clone().requires_grad_() for t in arguments]
        assert_as_accurate(guided_conv2d(*learning, onto=onto, **options).detach(), in_turn, exact)
        assert_as_accurate(guided_conv2d(*arguments, onto=onto.clone(), **options), in_turn, exact)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("kernels", [1, 2])
def test_maps_may_be_added_to_their_own_convolution(
    device: torch.device, memory_format: torch.memory_format, kernels: int
) -> None:
    """Large enough for the transforms, which overwrite what they add to."""
    torch.manual_seed(10)
    x = torch.randn(2, 32, 80, 75, device=device).to(memory_format=memory_format)
    weight, bias = torch.randn(32, 32, 3, 3, device=device) / 17, torch.randn(32, device=device)
    guides = make_guides("both", kernels, 32, torch.float32, device)
    expected = reference.guided_conv2d(x, weight, bias, *guides, padding=1, onto=x)
    result = guided_conv2d(x, weight, bias, *guides, padding=1, onto=x)
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_gradients(device: torch.device, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    torch.manual_seed(1)
    for guide, activation, kernels in itertools.product(GUIDES, ("relu", None), (1, 2)):
        x = torch.randn(2, 5, 7, 6, device=device).to(dtype=dtype, memory_format=memory_format)
        weight, bias = (torch.randn(size, device=device).to(dtype) for size in ((4, 5, 3, 3), (4,)))
        arguments = [x, weight, bias, *make_guides(guide, kernels, 4, dtype, device)]
        arguments = [None if t is None else t.requires_grad_() for t in arguments]
        upstream = torch.randn(2, 4, 4, 3, device=device).to(dtype)
        options = {"stride": 2, "padding": 1, "activation": activation}
        ours = gradients(guided_conv2d, arguments, upstream, **options)
        torchs = gradients(reference.guided_conv2d, arguments, upstream, **options)
        exact = gradients(reference.guided_conv2d, double(arguments), upstream.double(), **options)
        for result, other, truth in zip(ours, torchs, exact, strict=True):
            assert result.dtype == dtype
            assert_as_accurate(result, other, truth)


@pytest.mark.parametrize("guide", GUIDES)
def test_gradcheck(device: torch.device, guide: str) -> None:
    torch.manual_seed(2)
    multiplier, shift = make_guides(guide, 2, 3, torch.float64, device)
    given = [t.requires_grad_() for t in (multiplier, shift) if t is not None]
    x, weight, bias = (
        torch.randn(shape, dtype=torch.float64, device=device, requires_grad=True)
        for shape in ((2, 4, 4, 3), (3, 4, 3, 3), (3,))
    )
    x1, x2, matrix = (
        torch.randn(shape, dtype=torch.float64, device=device, requires_grad=True)
        for shape in ((2, 3, 3, 2), (2, 2, 3, 2), (3, 5))
    )

    def guides(rest):
        rest = list(rest)
        return [None if t is None else rest.pop(0) for t in (multiplier, shift)]

    assert torch.autograd.gradcheck(
        lambda x, weight, bias, *rest: guided_conv2d(x, weight, bias, *guides(rest), padding=1),
        (x, weight, bias, *given),
        fast_mode=True,
    )
    for layout in FORMATS:
        assert torch.autograd.gradcheck(
            lambda x1, x2, weight, bias, *rest, layout=layout: guided_pointwise_conv2d(
                x1.to(memory_format=layout),
                x2,
                weight,
                bias,
                *guides(rest),
            ),
            (x1, x2, matrix, bias, *given),
            fast_mode=True,
        )


def test_folded_equals_unfolded(device: torch.device) -> None:
    torch.manual_seed(3)
    shapes = ((1, 16, 12, 12), (24, 16, 3, 3), (24,))
    x, weight, bias = (torch.randn(shape, device=device) for shape in shapes)
    for guide in GUIDES:
        arguments = [x, weight, bias, *make_guides(guide, 1, 24, torch.float32, device)]
        with torch.no_grad():
            folded = guided_conv2d(*arguments, padding=1)
        weight.requires_grad_()
        unfolded = guided_conv2d(*arguments, padding=1)
        weight.requires_grad_(False)
        assert unfolded.requires_grad
        assert not folded.requires_grad
        assert_as_accurate(folded, unfolded, reference.guided_conv2d(*double(arguments), padding=1))


POINTWISE_SHAPES = [
    (2, 5, 3, 7, 9),
    (1, 16, 16, 8, 8),
    (1, 1, 1, 1, 1),
    (3, 4, 7, 1, 1),
    (0, 3, 2, 4, 4),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("formats", list(itertools.product(FORMATS, FORMATS)), ids=str)
def test_pointwise(
    device: torch.device, dtype: torch.dtype, formats: tuple[torch.memory_format, torch.memory_format]
) -> None:
    """Without and with gradients, the two inputs in the same and in different layouts."""
    torch.manual_seed(4)
    for (N, C1, C2, H, W), guide, activation in itertools.product(POINTWISE_SHAPES, GUIDES, ("relu", None)):
        x1 = torch.randn(N, C1, H, W, device=device).to(dtype=dtype, memory_format=formats[0])
        x2 = torch.randn(N, C2, H, W, device=device).to(dtype=dtype, memory_format=formats[1])
        weight, bias = (torch.randn(size, device=device).to(dtype) for size in ((6, C1 + C2, 1, 1), (6,)))
        arguments = [x1, x2, weight, bias, *make_guides(guide, N, 6, dtype, device)]
        result = guided_pointwise_conv2d(*arguments, activation=activation)
        assert result.is_contiguous(memory_format=formats[0]) or x1.is_contiguous()
        exact = reference.guided_pointwise_conv2d(*double(arguments), activation=activation)
        assert_as_accurate(
            result, reference.guided_pointwise_conv2d(*arguments, activation=activation), exact
        )
        as_matrix = [*arguments[:2], weight[:, :, 0, 0], *arguments[3:]]
        assert torch.equal(guided_pointwise_conv2d(*as_matrix, activation=activation), result)

        arguments = [None if t is None else t.requires_grad_() for t in arguments]
        upstream = torch.randn(N, 6, H, W, device=device).to(dtype)
        ours = gradients(guided_pointwise_conv2d, arguments, upstream, activation=activation)
        torchs = gradients(reference.guided_pointwise_conv2d, arguments, upstream, activation=activation)
        truths = gradients(
            reference.guided_pointwise_conv2d, double(arguments), upstream.double(), activation=activation
        )
        for gradient, other, truth in zip(ours, torchs, truths, strict=True):
            assert_as_accurate(gradient, other, truth)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_pointwise_of_large_maps(
    cuda: torch.device, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    """Sizes that give every multiprocessor several tiles of its kernels on CUDA, aligned and not."""
    torch.manual_seed(7)
    for C1, C2, C_out, H, W in ((128, 96, 160, 200, 256), (64, 64, 48, 200, 256), (35, 29, 70, 201, 255)):
        x1, x2 = (torch.randn(2, C, H, W, device=cuda).to(dtype) for C in (C1, C2))
        x1 = x1.to(memory_format=memory_format)
        weight, bias = (torch.randn(size, device=cuda).to(dtype) for size in ((C_out, C1 + C2), (C_out,)))
        arguments = [x1, x2, weight, bias, *make_guides("both", 2, C_out, dtype, cuda)]
        exact = reference.guided_pointwise_conv2d(*double(arguments))
        eager = reference.guided_pointwise_conv2d(*arguments)
        assert_as_accurate(guided_pointwise_conv2d(*arguments), eager, exact)


@pytest.mark.parametrize("wants_gradient", [True, False])
def test_autocast_computes_in_bfloat16(device: torch.device, wants_gradient: bool) -> None:
    torch.manual_seed(5)
    shapes = ((2, 8, 6, 6), (2, 8, 6, 6), (4, 8, 3, 3), (4, 16), (4,))
    x1, x2, weight, matrix, bias = (torch.randn(shape, device=device) for shape in shapes)
    x2 = x2.bfloat16()
    weight.requires_grad_(wants_gradient)
    matrix.requires_grad_(wants_gradient)
    for kernels in (1, 2):
        guides = make_guides("both", kernels, 4, torch.float32, device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            pairs = [
                (
                    guided_conv2d(x1, weight, bias, *guides),
                    reference.guided_conv2d(x1, weight, bias, *guides),
                ),
                (
                    guided_pointwise_conv2d(x1, x2, matrix, bias, *guides),
                    reference.guided_pointwise_conv2d(x1, x2, matrix, bias, *guides),
                ),
            ]
        truths = [
            reference.guided_conv2d(*double([x1, weight, bias, *guides])),
            reference.guided_pointwise_conv2d(*double([x1, x2, matrix, bias, *guides])),
        ]
        for (result, torchs), truth in zip(pairs, truths, strict=True):
            assert result.dtype == torch.bfloat16
            assert_as_accurate(result, torchs, truth.detach())
            if wants_gradient:
                result.float().sum().backward()
                assert (weight.grad if result is pairs[0][0] else matrix.grad).dtype == torch.float32


def test_compiles_as_one_graph(device: torch.device) -> None:
    """Folded, for one blur kernel and no gradient; with gradients, for several."""
    torch.manual_seed(6)
    shapes = ((2, 4, 6, 6), (4, 4, 3, 3), (4, 8), (4,))
    x, weight, matrix, bias = (torch.randn(shape, device=device) for shape in shapes)

    def both(x, weight, matrix, multiplier, shift):
        maps = guided_conv2d(x, weight, bias, multiplier, shift, padding=1)
        return guided_pointwise_conv2d(maps, x, matrix, bias, multiplier, shift)

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    guides = make_guides("both", 1, 4, torch.float32, device)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, weight, matrix, *guides), both(x, weight, matrix, *guides))
    guides = make_guides("both", 2, 4, torch.float32, device)
    parameters = (weight.requires_grad_(), matrix.requires_grad_())
    ours, expected = (
        torch.autograd.grad(f(x, *parameters, *guides).sum(), parameters) for f in (compiled, both)
    )
    torch.testing.assert_close(ours, expected)


X = torch.zeros(2, 3, 8, 8)
WEIGHT = torch.zeros(4, 3, 3, 3)
GUIDE = torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        ((X[0], WEIGHT, None, None, None), {}, r"x must be feature maps of shape \(N, C, H, W\)"),
        (
            (X, WEIGHT[:, :2], None, None, None),
            {},
            r"weight must have the shape \(C_out, 3, K_y, K_x\), got \(4, 2, 3, 3\)",
        ),
        (
            (X, WEIGHT.double(), None, None, None),
            {},
            "weight must have the dtype of the feature maps, torch.float32",
        ),
        ((X, WEIGHT.to("meta"), None, None, None), {}, "weight is on meta, the feature maps are on cpu"),
        ((X, WEIGHT, torch.zeros(3), None, None), {}, r"bias must have the shape \(4,\), got \(3,\)"),
        (
            (X, WEIGHT, None, GUIDE[:, :3], None),
            {},
            r"multiplier must have the shape \(2, 4\) or \(1, 4\), got \(2, 3\)",
        ),
        ((X, WEIGHT, None, None, torch.zeros(3, 4)), {}, "shift must have the shape"),
        (
            (X, WEIGHT, None, None, None),
            {"stride": 0},
            "stride must be an integer of at least 1 or a pair of them, got 0",
        ),
        ((X, WEIGHT, None, None, None), {"padding": (1, -1)}, r"padding must be .* got \(1, -1\)"),
        (
            (X[:, :, :2], WEIGHT, None, None, None),
            {},
            "kernel of height 3 does not fit into padded maps of height 2",
        ),
        ((X, WEIGHT, None, None, None), {"activation": "gelu"}, "activation must be .* got 'gelu'"),
        (
            (X, WEIGHT, None, None, None),
            {"onto": X},
            r"onto must have the shape of the result, \(2, 4, 6, 6\), got \(2, 3, 8, 8\)",
        ),
        (
            (X, WEIGHT, None, None, None),
            {"padding": 1, "onto": torch.zeros(2, 4, 8, 8).double()},
            "onto must have the dtype of the feature maps, torch.float32, got torch.float64",
        ),
    ],
)
def test_bad_input_is_named(arguments: tuple, options: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        guided_conv2d(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            (X, X[:, :, :4], WEIGHT[:, :, 0, 0]),
            r"x1 and x2 must agree in N, H and W, got the shapes \(2, 3, 8, 8\)",
        ),
        (
            (X, X, WEIGHT),
            r"weight must be of shape \(C_out, C_in\) or \(C_out, C_in, 1, 1\), got \(4, 3, 3, 3\)",
        ),
        (
            (X, X, WEIGHT[:, :, 0, 0]),
            r"weight must have the shape \(C_out, 6, K_y, K_x\), got \(4, 3, 1, 1\)",
        ),
        (
            (X, X.double(), torch.zeros(4, 6)),
            "x2 must have the dtype of the feature maps, torch.float32, got torch.float64",
        ),
        (
            (X, X.int(), torch.zeros(4, 6)),
            "x2 must be float32, float64, bfloat16 or float16, got torch.int32",
        ),
    ],
)
def test_bad_pointwise_input_is_named(arguments: tuple, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        guided_pointwise_conv2d(*arguments, None, None, None)
