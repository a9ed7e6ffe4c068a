"""Pairs of kernels and estimates come from the file in the requested sizes; bad files are refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels, support_size
from asnet.data.kernel_estimates import KernelEstimates
from asnet.errors import InputError


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    kernels = sample_blur_kernels(200, BlurKernelConfig(canvas=31), generator=generator(0))
    # Each estimate identifies its kernel.
    save_file({"kernel": kernels, "estimate": kernels / 2}, tmp_path / "estimates.safetensors")
    return tmp_path / "estimates.safetensors"


def test_pairs_stay_together_and_are_of_about_the_size_that_is_asked_for(file: Path) -> None:
    estimates = KernelEstimates(file, canvas=41)
    sizes = torch.tensor([5, 11, 15, 21, 27] * 8)
    kernels, estimated = estimates.draw(sizes, generator=generator(1))
    assert kernels.shape == (40, 41, 41)
    torch.testing.assert_close(estimated, kernels / 2)
    assert (support_size(kernels) - sizes).abs().max() <= 8
    # Each draw is mirrored and transposed at random.
    assert len({tuple(kernel.flatten().tolist()) for kernel in kernels}) > 35


def test_kernels_that_do_not_fit_are_left_out(file: Path) -> None:
    estimates = KernelEstimates(file, canvas=15)
    assert 0 < len(estimates) < 200
    kernels, _ = estimates.draw(torch.full((50,), 31), generator=generator(2))
    assert kernels.shape == (50, 15, 15)
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(50))


def test_the_same_seed_draws_the_same(file: Path) -> None:
    estimates = KernelEstimates(file, canvas=31)
    sizes = torch.tensor([9, 9])
    first, second, other = (estimates.draw(sizes, generator=generator(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert estimates.draw(sizes[:0], generator=generator(3))[0].shape == (0, 31, 31)


def test_unusable_files_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        KernelEstimates(tmp_path / "missing", canvas=31)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="is damaged"):
        KernelEstimates(damaged, canvas=31)
    save_file({"kernel": torch.zeros(2, 5, 5)}, tmp_path / "half")
    with pytest.raises(InputError, match="kernel and estimate"):
        KernelEstimates(tmp_path / "half", canvas=31)
    point = torch.zeros(1, 9, 9)
    point[0, 0, 0] = 1
    save_file({"kernel": point, "estimate": point.clone()}, tmp_path / "large")
    with pytest.raises(InputError, match="fits a grid of 5 pixels"):
        KernelEstimates(tmp_path / "large", canvas=5)
