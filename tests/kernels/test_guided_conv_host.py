"""Host entries of the guided convolutions for CUDA, run on the CPU, and their use by `asnet.ops`."""

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from accuracy import assert_as_accurate
from torch import Tensor

from asnet.errors import AsnetError
from asnet.ops import guided_conv, guided_pointwise_conv2d, reference

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
FORMATS = (torch.contiguous_format, torch.channels_last)


def in_float64(tensors: list[Tensor | None]) -> list[Tensor | None]:
    return [None if t is None else t.double() for t in tensors]


def make_tables(N: int, C_out: int, dtype: torch.dtype) -> list[Tensor]:
    """Multiplier, shift and bias as the operators take them."""
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    return [
        torch.randn(N, C_out, dtype=dtype),
        torch.randn(N, C_out, dtype=dtype),
        torch.randn(C_out, dtype=dtype),
    ]


def check_pointwise(
    operator: Callable[..., Tensor], arguments: list[Tensor | None], relu: bool = True
) -> Tensor:
    """The operator's result, after comparison with the formula: numbers, dtype, memory format."""
    x1, x2, weight, multiplier, shift, bias = arguments
    copies = [None if t is None else t.clone() for t in arguments]
    result = operator(*arguments, relu)
    assert result.dtype == x1.dtype
    for argument, copy in zip(arguments, copies, strict=True):
        assert argument is None or torch.equal(argument, copy)
    if result.numel() == 0:
        return result  # torch's convolution accepts no empty maps
    activation = "relu" if relu else None
    positional = [x1, x2, weight, bias, multiplier, shift]
    eager = reference.guided_pointwise_conv2d(*positional, activation=activation)
    exact = reference.guided_pointwise_conv2d(*in_float64(positional), activation=activation)
    assert_as_accurate(result, eager, exact)
    return result


# Odd channels and whole chunks of 16 bytes; one pixel; no x1; several tiles; no image, no pixels, no output.
POINTWISE_SHAPES = [
    (2, 5, 3, 7, 9, 11),
    (1, 8, 16, 16, 8, 24),
    (1, 1, 1, 1, 1, 1),
    (1, 0, 4, 3, 5, 2),
    (1, 16, 8, 136, 12, 14),
    (0, 3, 2, 4, 4, 4),
    (2, 3, 2, 4, 0, 4),
    (1, 3, 2, 0, 3, 3),
]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("formats", list(itertools.product(FORMATS, FORMATS)), ids=str)
def test_pointwise(
    cuda_operators, dtype: torch.dtype, formats: tuple[torch.memory_format, torch.memory_format]
) -> None:
    """Two inputs in the same and in different memory formats; the result has the first one's."""
    torch.manual_seed(0)
    for index, (N, C1, C2, C_out, H, W) in enumerate(POINTWISE_SHAPES):
        x1 = torch.randn(N, C1, H, W).to(dtype=dtype, memory_format=formats[0])
        x2 = torch.randn(N, C2, H, W).to(dtype=dtype, memory_format=formats[1])
        arguments = [x1, x2, torch.randn(C_out, C1 + C2).to(dtype), *make_tables(N, C_out, dtype)]
        result = check_pointwise(cuda_operators.guided_pointwise_conv2d, arguments, index % 2 == 0)
        fake = torch.ops.asnet.guided_pointwise_conv2d(*(t.to("meta") for t in arguments), index % 2 == 0)
        assert result.shape == fake.shape == (N, C_out, H, W)
        assert result.stride() == fake.stride()
        assert result.is_contiguous(memory_format=formats[0]) or x1.is_contiguous()


@pytest.mark.parametrize("view", ["every second map", "inner pixels", "transposed", "expanded", "odd start"])
def test_pointwise_of_views(cuda_operators, view: str) -> None:
    """Strides of no memory format, and maps that are not aligned to 16 bytes."""
    torch.manual_seed(1)
    base = torch.randn(3, 8, 9, 9)
    x = {
        "every second map": base[:2, ::2],
        "inner pixels": base[:2, :4, 1:-2, 2:-1],
        "transposed": base[:2, :4].transpose(2, 3),
        "expanded": base[:1, :4].expand(2, 4, 9, 9),
        "odd start": torch.randn(2 * 4 * 81 + 1)[1:].view(2, 4, 9, 9),
    }[view]
    other = torch.randn(2, 8, *x.shape[2:])
    for x1, x2 in ((x, other), (other, x)):
        arguments = [x1, x2, torch.randn(12, 10).t(), *make_tables(2, 10, torch.float32)]
        assert check_pointwise(cuda_operators.guided_pointwise_conv2d, arguments).is_contiguous()


def test_strided_and_absent_tables(cuda_operators) -> None:
    """One blur kernel expanded to a batch, a transposed table, every second bias; each of them left out."""
    torch.manual_seed(2)
    x1, x2, weight = torch.randn(2, 8, 4, 6), torch.randn(2, 8, 4, 6), torch.randn(3, 16)
    given = (torch.randn(1, 3).expand(2, 3), torch.randn(3, 2).t(), torch.randn(6)[::2])
    for present in itertools.product((True, False), repeat=3):
        tables = [table if wanted else None for table, wanted in zip(given, present, strict=True)]
        check_pointwise(cuda_operators.guided_pointwise_conv2d, [x1, x2, weight, *tables])


def test_bad_input_is_named(cuda_operators) -> None:
    x, weight, table = torch.zeros(2, 3, 4, 4), torch.zeros(5, 6), torch.zeros(2, 5)
    pointwise = cuda_operators.guided_pointwise_conv2d
    for arguments, sentence in [
        ((x[0], x, weight, None, None, None), r"x1 must have 4 dimensions \(N, C, H, W\), got 3"),
        ((x, x[:1], weight, None, None, None), "x2 has size 1 in dimension 0, x1 has 2"),
        ((x, x[..., :2], weight, None, None, None), "x2 has size 2 in dimension 3, x1 has 4"),
        ((x, x.double(), weight, None, None, None), "x1, x2 and weight must have one dtype"),
        ((x, x, weight[:, :4], None, None, None), r"dimensions \(C_out, 6\), got 2 and size 4"),
        ((x, x, weight[..., None], None, None, None), r"dimensions \(C_out, 6\), got 3"),
        ((x.int(), x.int(), weight.int(), None, None, None), "must be float32, float64, bfloat16 or float16"),
        ((x, x, weight, table[:, :3], None, None), "multiplier has size 3 in dimension 1, x asks for 5"),
        ((x, x, weight, None, table.double(), None), "shift must have dtype float32"),
    ]:
        with pytest.raises(RuntimeError, match=sentence):
            pointwise(*arguments, True)


@pytest.fixture
def kernel_for_cpu(cuda_operators, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.dtype]]:
    """The CUDA entry as ``asnet::guided_pointwise_conv2d`` for CPU tensors; lists the dtypes of its calls."""
    calls = []

    def run(x1: Tensor, *rest: Tensor | bool | None) -> Tensor:
        calls.append(x1.dtype)
        return cuda_operators.guided_pointwise_conv2d(x1, *rest)

    monkeypatch.setattr(guided_conv, "_DEVICES_WITH_POINTWISE_KERNEL", frozenset({"cpu"}))
    with torch.library._scoped_library("asnet", "IMPL") as library:
        library.impl("guided_pointwise_conv2d", run, "CPU")
        yield calls


def make_arguments(requires_grad: bool = False) -> list[Tensor]:
    """x1, x2, weight, bias, multiplier and shift for a batch under one blur kernel."""
    shapes = ((2, 5, 4, 6), (2, 3, 4, 6), (7, 8, 1, 1), (7,), (1, 7), (1, 7))
    return [torch.randn(shape, requires_grad=requires_grad) for shape in shapes]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_function_takes_the_kernel(kernel_for_cpu, dtype: torch.dtype) -> None:
    torch.manual_seed(5)
    for memory_format, activation in itertools.product(FORMATS, ("relu", None)):
        arguments = [t.to(dtype) for t in make_arguments()]
        arguments[0] = arguments[0].to(memory_format=memory_format)
        result = guided_pointwise_conv2d(*arguments, activation=activation)
        assert result.is_contiguous(memory_format=memory_format)
        eager = reference.guided_pointwise_conv2d(*arguments, activation=activation)
        exact = reference.guided_pointwise_conv2d(*in_float64(arguments), activation=activation)
        assert_as_accurate(result, eager, exact)
    assert kernel_for_cpu == [dtype] * 4


def test_function_leaves_gradients_to_torch(kernel_for_cpu) -> None:
    """The kernel is called when no gradient is needed, even for tensors that require one."""
    torch.manual_seed(6)
    arguments = make_arguments(requires_grad=True)
    result = guided_pointwise_conv2d(*arguments)
    ours = torch.autograd.grad(result.sum(), arguments)
    expected = torch.autograd.grad(reference.guided_pointwise_conv2d(*arguments).sum(), arguments)
    torch.testing.assert_close(ours, expected)
    assert kernel_for_cpu == []
    with torch.no_grad():
        torch.testing.assert_close(guided_pointwise_conv2d(*arguments), result)
    assert kernel_for_cpu == [torch.float32]


def test_function_under_autocast(kernel_for_cpu) -> None:
    torch.manual_seed(7)
    arguments = make_arguments()
    arguments[1] = arguments[1].bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = guided_pointwise_conv2d(*arguments)
        eager = reference.guided_pointwise_conv2d(*arguments)
    assert kernel_for_cpu == [torch.bfloat16]
    assert_as_accurate(result, eager, reference.guided_pointwise_conv2d(*in_float64(arguments)))


def test_function_compiles(kernel_for_cpu) -> None:
    torch.manual_seed(8)
    arguments = make_arguments()
    arguments[0] = arguments[0].to(memory_format=torch.channels_last)
    compiled = torch.compile(guided_pointwise_conv2d, fullgraph=True, backend="aot_eager")
    result = compiled(*arguments)
    assert kernel_for_cpu == [torch.float32]
    expected = guided_pointwise_conv2d(*arguments)
    assert torch.equal(result, expected)
    assert result.stride() == expected.stride()


def test_operators_pass_opcheck(kernel_for_cpu) -> None:
    torch.manual_seed(9)
    x1, x2, weight, *_ = make_arguments()
    for memory_format in FORMATS:
        torch.library.opcheck(
            torch.ops.asnet.guided_pointwise_conv2d.default,
            (x1.to(memory_format=memory_format), x2, weight[:, :, 0, 0], *make_tables(2, 7, x1.dtype), True),
        )


def test_operators_refuse_derivatives(kernel_for_cpu) -> None:
    x = torch.randn(1, 2, 3, 3, requires_grad=True)
    result = torch.ops.asnet.guided_pointwise_conv2d(x, x, torch.randn(2, 4), None, None, None, True)
    with pytest.raises(AsnetError, match="asnet::guided_pointwise_conv2d is inference-only"):
        result.sum().backward()
