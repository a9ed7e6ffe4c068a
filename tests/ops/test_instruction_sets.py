"""Every instruction set of the CPU, each in a separate process: a process chooses one for good.

As a script: checks the one that is named on the command line and in ASNET_ISA.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from half_precision import check_every_half_precision_number

from asnet.ops import (
    cross_correlation,
    gather_images,
    periodic_images,
    periodic_spectra,
    reference,
    shrunk_divergence,
    sparse_latent,
    toeplitz_solve,
)

INSTRUCTION_SETS = ("baseline", "avx2", "avx512")


def check_cross_correlation() -> None:
    """Direct and spectral kernels share no code that could be wrong in both."""
    for C, H, W, lag in ((5, 40, 60, 4), (2, 33, 31, 9), (7, 20, 200, 3)):
        features = torch.randn(1, C, H, W, dtype=torch.float64)
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-13)):
            outcomes = []
            for method in ("direct", "spectral"):
                leaf = features.to(dtype).requires_grad_()
                result = cross_correlation(leaf, lag, method=method)
                result.backward(torch.linspace(-1, 1, result.numel()).to(dtype).reshape(result.shape))
                outcomes.append((result.detach(), leaf.grad))
            for direct, spectral in zip(*outcomes, strict=True):
                assert (direct - spectral).abs().max() < tolerance * direct.abs().max()


def check_transform_conv2d() -> None:
    """Against the convolution in float64."""
    for kernel, stride in ((3, 1), (3, 2), (7, 1)):
        for dtype in (torch.float32, torch.bfloat16):
            x, weight = torch.randn(1, 21, 30, 37).to(dtype), torch.randn(43, 37, kernel, kernel)
            maps = x.permute(0, 3, 1, 2).double()
            exact = torch.nn.functional.conv2d(maps, weight.double(), None, stride, 1).relu()
            out = torch.ops.asnet.transform_conv2d(
                x, weight.permute(2, 3, 1, 0), None, 1, 1, *exact.shape[2:], stride, 1, True
            )
            error = (out.permute(0, 3, 1, 2).double() - exact).abs().max() / exact.max()
            assert error < (1e-5 if dtype == torch.float32 else 5e-3), (kernel, stride, dtype, float(error))


def check_matrix_conv2d() -> None:
    """Against the convolution in float64; by vectors, except where the instruction set has matrix units."""
    for kernel, stride in ((3, 1), (5, 2)):
        for channels in (5, 37, 64):
            x, weight = torch.randn(1, 30, 37, channels).bfloat16(), torch.randn(43, channels, kernel, kernel)
            maps, weight = x.permute(0, 3, 1, 2).double(), weight.bfloat16().float()
            exact = torch.nn.functional.conv2d(maps, weight.double(), None, stride, 1).relu()
            out = torch.ops.asnet.matrix_conv2d(
                x, weight.permute(2, 3, 1, 0), None, 1, 1, *exact.shape[2:], stride, 1, True
            )
            error = (out.permute(0, 3, 1, 2).double() - exact).abs().max() / exact.max()
            assert error < 5e-3, (kernel, stride, channels, float(error))


def check_sparse_latent() -> None:
    """Against the formula in float64."""
    for height, width in ((20, 54), (45, 32)):
        padded = torch.rand(2, 1, height, width, dtype=torch.float64)
        kernel, clipped = torch.full((2, 3, 3), 1 / 9, dtype=torch.float64), padded > 0.9
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
            arguments = (padded.to(dtype), kernel.to(dtype), 4e-3)
            for ground in (None, 0.7):
                options = {"beta": 8e-3, "growth": 2.0, "steps": 3, "clipped": clipped, "ground": ground}
                exact = reference.sparse_latent(*(a.double() for a in arguments[:2]), 4e-3, **options)
                for result, truth in zip(sparse_latent(*arguments, **options), exact, strict=True):
                    assert (result - truth).abs().max() < tolerance


def check_periodic_spectra() -> None:
    """There and back with a factor, against the formula in float64."""
    for height, width in ((20, 54), (45, 32), (64, 9)):
        images = torch.randn(2, 3, height, width, dtype=torch.float64)
        spectra = reference.periodic_spectra(images)
        factor = torch.rand(2, *spectra.shape[2:3], *spectra.shape[4:], dtype=torch.float64)
        exact = reference.periodic_images(spectra, height, factor)
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-13)):
            found = periodic_spectra(images.to(dtype))
            assert (found - spectra).abs().max() < tolerance * spectra.abs().max()
            back = periodic_images(found, height, factor.to(dtype))
            assert (back - exact).abs().max() < tolerance * exact.abs().max()


def check_shrunk_divergence() -> None:
    """Against the formula in float64."""
    threshold = torch.tensor([0.3, 1.0], dtype=torch.float64)
    for height, width in ((1, 1), (20, 37), (33, 64)):
        images = torch.randn(2, 3, height, width, dtype=torch.float64)
        exact = reference.shrunk_divergence(images, threshold)
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-13)):
            assert (shrunk_divergence(images.to(dtype), threshold.to(dtype)) - exact).abs().max() < tolerance


def check_gather_images() -> None:
    """Against the formula in float64."""
    for factor in (1, 2, 3):
        first = torch.rand(2, 3, 11, 70)
        images, mean = [first, first + 0.1 * torch.randn(first.shape)], torch.rand(2, 3)
        in_float64 = [image.double() for image in images]
        arguments = (factor, (24, 78), torch.float64)
        exact = reference.gather_images(in_float64, *arguments, mean=mean, difference_scale=2.5)
        for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 4e-3)):
            result = gather_images(images, factor, (24, 78), dtype, mean=mean, difference_scale=2.5)
            assert (result.double() - exact).abs().max() < tolerance


def check_toeplitz_solve() -> None:
    """Against the whole matrix in float64."""
    for side in (4, 17):
        lags = torch.zeros(1, 2 * side - 1, 2 * side - 1, dtype=torch.float64)
        lags[0, side - 2 : side + 1, side - 1] = torch.tensor([1.0, 4.0, 1.0])
        right = torch.rand(1, side, side, dtype=torch.float64)
        exact = reference.toeplitz_solve(lags, right, 0.5, 8)
        for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
            result = toeplitz_solve(lags.to(dtype), right.to(dtype), 0.5, 8)
            assert (result - exact).abs().max() < tolerance


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_every_instruction_set(instruction_set: str) -> None:
    """With poisoned memory from malloc."""
    best = torch.ops.asnet.instruction_set()
    if INSTRUCTION_SETS.index(best) < INSTRUCTION_SETS.index(instruction_set):
        pytest.skip(f"this processor does not offer {instruction_set}")
    # Modules beside this one must be found under PYTHONSAFEPATH, too.
    modules = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    environment = {
        **os.environ,
        "ASNET_ISA": instruction_set,
        "MALLOC_PERTURB_": "1",
        "PYTHONPATH": modules,
    }
    command = [sys.executable, __file__, instruction_set]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    assert torch.ops.asnet.instruction_set() == sys.argv[1], torch.ops.asnet.instruction_set()
    torch.manual_seed(0)
    check_every_half_precision_number(torch.device("cpu"))
    check_cross_correlation()
    check_transform_conv2d()
    check_matrix_conv2d()
    check_sparse_latent()
    check_periodic_spectra()
    check_shrunk_divergence()
    check_gather_images()
    check_toeplitz_solve()
