"""The host entry of the latent image for CUDA, run on the CPU, against the operator for the CPU."""

import pytest
import torch
from host_entries import assert_like_cpu
from torch import Tensor

# (N, H, W), side of the kernel.
CASES = [((1, 1, 1), 1), ((2, 3, 5), 3), ((1, 9, 135), 9), ((3, 20, 24), 5), ((0, 8, 9), 3)]
LIKE_CPU = pytest.mark.usefixtures("cuda_operators", "poisoned")


def problem(shape: tuple[int, int, int], size: int, dtype: torch.dtype) -> list[Tensor]:
    """Padded images, observed images, where they are clipped, kernels."""
    random = torch.Generator().manual_seed(sum(shape))
    N, H, W = shape
    padded = torch.rand(N, 1, H, W, generator=random, dtype=torch.float64)
    kernel = torch.rand(N, size, size, generator=random, dtype=torch.float64) ** 4
    kernel /= kernel.sum((1, 2), keepdim=True)
    clipped = padded > 0.8
    return [padded.to(dtype), (padded + 0.3 * clipped).to(dtype), clipped, kernel.to(dtype)]


@LIKE_CPU
@pytest.mark.parametrize("ground", [None, 0.7])
@pytest.mark.parametrize("clips", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("shape", "size"), CASES)
def test_latent_images(shape, size, dtype, clips, ground) -> None:
    padded, observed, clipped, kernel = problem(shape, size, dtype)
    arguments = [padded, observed, clipped if clips else None, kernel, 4e-3, 8e-3, 2.0, 3, 1.4, ground]
    assert_like_cpu("sparse_latent", arguments, partial_sums=[2.0, 2.0])


@LIKE_CPU
def test_strides() -> None:
    tensors = problem((2, 12, 15), 3, torch.float64)
    transposed = [tensor.transpose(-1, -2).contiguous().transpose(-1, -2) for tensor in tensors]
    assert_like_cpu("sparse_latent", [*transposed, 4e-3, 8e-3, 2.0, 3, 1.4], partial_sums=[2.0, 2.0])


def test_any_size(cuda_operators) -> None:
    """On CUDA, torch transforms sides that the CPU's transforms do not support."""
    padded, observed, _, kernel = problem((1, 7, 11), 3, torch.float64)
    latent, _ = cuda_operators.sparse_latent(padded, observed, None, kernel, 1e-9, 1e-9, 2.0, 1, 1.0)
    assert latent.shape == padded.shape
    assert latent.isfinite().all()


def test_checks_are_the_same_as_on_the_cpu(cuda_operators) -> None:
    padded, observed, clipped, kernel = problem((1, 8, 9), 3, torch.float32)
    with pytest.raises(RuntimeError, match="steps is 0"):
        cuda_operators.sparse_latent(padded, observed, clipped, kernel, 1e-3, 1e-3, 2.0, 0, 1.0)
    with pytest.raises(RuntimeError, match="observed must have the dtype"):
        cuda_operators.sparse_latent(padded, observed.double(), clipped, kernel, 1e-3, 1e-3, 2.0, 1, 1.0)
