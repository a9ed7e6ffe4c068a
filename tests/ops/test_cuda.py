"""Operators on CUDA, apart from their numbers: streams, devices, graphs, compilation, autocast."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from asnet.errors import InputError
from asnet.ops import cross_correlation, guided_conv2d, guided_modulation, guided_pointwise_conv2d

Operator = Callable[..., Tensor]

OPERATORS: dict[str, Operator] = {
    "cross_correlation, direct": lambda x1, *_: cross_correlation(x1, (3, 5), method="direct"),
    "cross_correlation, spectral": lambda x1, *_: cross_correlation(x1, (3, 5), method="spectral"),
    "guided_modulation": lambda x1, x2, weight, matrix, c, m, b: guided_modulation(x1, m, b, conv_bias=c),
    "guided_conv2d": lambda x1, x2, weight, matrix, c, m, b: guided_conv2d(x1, weight, c, m, b, padding=1),
    "guided_pointwise_conv2d": lambda x1, x2, weight, matrix, c, m, b: guided_pointwise_conv2d(
        x1, x2, matrix, c, m, b
    ),
}
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())


def make_arguments(
    device: torch.device | str, seed: int = 0, memory_format=torch.channels_last
) -> list[Tensor]:
    """x1, x2 (maps that several blocks share), weight, matrix, conv_bias, multiplier, shift, float32."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, 8, 90, 101), (2, 8, 90, 101), (8, 8, 3, 3), (8, 16), (8,), (2, 8), (2, 8)]
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    maps = [x.to(memory_format=memory_format) for x in tensors[:2]]
    return [t.to(device) for t in (*maps, *tensors[2:])]


def forward_and_backward(operator: Operator, arguments: list[Tensor]) -> list[Tensor]:
    """The result and the gradients of every argument that has one."""
    leaves = [t.detach().requires_grad_() for t in arguments]
    result = operator(*leaves)
    # Each element has another weight, computed from the result: no gradient is constant.
    gradients = torch.autograd.grad(result, leaves, result.detach().sin(), allow_unused=True)
    return [result.detach(), *(g for g in gradients if g is not None)]


def inference(operator: Operator, arguments: list[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return [operator(*arguments)]


PASSES = {"inference": inference, "forward and backward": forward_and_backward}
both_passes = pytest.mark.parametrize("run", PASSES.values(), ids=PASSES.keys())


def assert_close(results: list[Tensor], expected: list[Tensor]) -> None:
    """Within float32's rounding of sums, relative to the largest element: other kernels may have run."""
    for result, other in zip(results, expected, strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(result.cpu(), other.cpu(), rtol=0, atol=1e-4 * scale)


@both_passes
@every_operator
def test_same_bits_every_time(device: torch.device, operator: Operator, run) -> None:
    for memory_format in (torch.contiguous_format, torch.channels_last):
        arguments = make_arguments(device, memory_format=memory_format)
        with torch.backends.cudnn.flags(deterministic=True, allow_tf32=False):
            first, second = (run(operator, arguments) for _ in range(2))
        assert all(map(torch.equal, first, second))


@pytest.mark.cuda
@both_passes
@every_operator
def test_stream_that_is_not_the_default(cuda: torch.device, operator: Operator, run) -> None:
    """Arguments are written after a long kernel on another stream: whoever does not wait reads NaN."""
    values = make_arguments(cuda)
    expected = run(operator, values)
    arguments = [torch.full_like(t, float("nan")) for t in values]
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        for argument, value in zip(arguments, values, strict=True):
            argument.copy_(value)
        results = run(operator, arguments)
    stream.synchronize()
    assert_close(results, expected)


@pytest.mark.cuda
@both_passes
@every_operator
def test_device_that_is_not_the_current_one(cuda: torch.device, operator: Operator, run) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("torch finds one CUDA device, the test needs two")
    expected = run(operator, make_arguments(cuda))
    results = run(operator, make_arguments("cuda:1"))
    assert torch.cuda.current_device() == 0
    assert {result.device for result in results} == {torch.device("cuda:1")}
    assert_close(results, expected)


@pytest.mark.cuda
@both_passes
@every_operator
def test_cuda_graph(cuda: torch.device, operator: Operator, run) -> None:
    """Captured once, replayed with other values, twice: nothing of the run before is left over."""
    arguments = make_arguments(cuda)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # so that libraries make their plans and workspaces before the capture
        for _ in range(2):
            run(operator, arguments)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run(operator, arguments)
    for seed in (1, 2):
        values = make_arguments(cuda, seed)
        for argument, value in zip(arguments, values, strict=True):
            argument.copy_(value)
        for result in results:
            result.fill_(float("nan"))
        graph.replay()
        once = [result.clone() for result in results]
        assert_close(once, run(operator, values))
        graph.replay()
        assert all(map(torch.equal, once, results))


@pytest.mark.cuda
def test_compiles_by_inductor(cuda: torch.device) -> None:
    """One graph of all operators, with torch's own kernels between them.

    They may round differently, which could change the sign of an element near zero: hence no ReLU.
    """
    pytest.importorskip("triton")
    arguments = make_arguments(cuda)

    def chain(
        x1: Tensor, x2: Tensor, weight: Tensor, matrix: Tensor, c: Tensor, m: Tensor, b: Tensor
    ) -> Tensor:
        maps = guided_conv2d(x1.sin(), weight, c, m, b, padding=1, activation=None)
        maps = guided_pointwise_conv2d(maps.tanh(), x2, matrix, c, m, b, activation=None)
        maps = guided_modulation(maps / 10, m, b, conv_bias=c, activation=None)
        return cross_correlation(maps.cos(), 3) / maps[0, 0].numel()

    compiled = torch.compile(chain, fullgraph=True)
    for run in PASSES.values():
        assert_close(run(compiled, arguments), run(chain, arguments))


@pytest.mark.parametrize("autocast_dtype", [torch.bfloat16, torch.float16], ids=str)
@every_operator
def test_autocast(device: torch.device, operator: Operator, autocast_dtype: torch.dtype) -> None:
    """The dtype is autocast's, float32 or that of the maps; the numbers are those of float32, rounded."""
    arguments = make_arguments(device)
    exact = forward_and_backward(operator, arguments)
    with torch.autocast(device.type, dtype=autocast_dtype):
        results = forward_and_backward(operator, arguments)
    convolves = operator in (OPERATORS["guided_conv2d"], OPERATORS["guided_pointwise_conv2d"])
    assert results[0].dtype == (autocast_dtype if convolves else torch.float32)
    assert {gradient.dtype for gradient in results[1:]} == {torch.float32}
    scale = float(exact[0].abs().max())
    # Three roundings: of the maps, of the weights, of the result; those of the products are of random sign.
    tolerance = 3 * torch.finfo(autocast_dtype).eps * scale
    torch.testing.assert_close(results[0].float(), exact[0], rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64], ids=str)
@every_operator
def test_unsupported_dtype_is_named(device: torch.device, operator: Operator, dtype: torch.dtype) -> None:
    arguments = make_arguments(device)
    sentence = f"must be float32, float64, bfloat16 or float16, got {dtype}"
    with pytest.raises(InputError, match=sentence):
        operator(arguments[0].to(dtype), *arguments[1:])


@pytest.mark.cuda
def test_mixed_devices_are_named(cuda: torch.device) -> None:
    x1, x2, weight, matrix, c, m, b = make_arguments(cuda)
    with pytest.raises(InputError, match="multiplier is on cpu, the feature maps are on cuda:0"):
        guided_modulation(x1, m.cpu(), b)
    with pytest.raises(InputError, match="shift is on cuda:0, the feature maps are on cpu"):
        guided_modulation(x1.cpu(), None, b)
    with pytest.raises(InputError, match="weight is on cpu, the feature maps are on cuda:0"):
        guided_conv2d(x1, weight.cpu(), c, m, b)
    with pytest.raises(InputError, match="x2 is on cpu, the feature maps are on cuda:0"):
        guided_pointwise_conv2d(x1, x2.cpu(), matrix, c, m, b)
    # Direct calls, without the checks of the public functions.
    with pytest.raises(RuntimeError, match="multiplier is on cpu, the feature maps on cuda:0"):
        torch.ops.asnet.guided_modulation(x1, m.cpu(), b, c, True)
    with pytest.raises(RuntimeError, match="multiplier is on cuda:0, the feature maps on cpu"):
        torch.ops.asnet.guided_modulation(x1.cpu(), m, b.cpu(), c.cpu(), True)
