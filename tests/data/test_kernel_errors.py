"""Wrong kernels: still kernels, usually wrong by a little, and the same for the same seed."""

import pytest
import torch

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.data.kernel_errors import mistaken_kernels
from asnet.errors import InputError
from asnet.evaluation.metrics import kernel_similarity


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [1, 3, 15, 31])
def test_wrong_kernels_are_kernels(size: int) -> None:
    kernels = sample_blur_kernels(100, BlurKernelConfig(canvas=size, minimum_size=1), generator=generator(0))
    wrong = mistaken_kernels(kernels, generator=generator(1))
    assert wrong.shape == kernels.shape
    assert wrong.min() >= 0
    torch.testing.assert_close(wrong.sum((1, 2)), torch.ones(100))


def test_they_are_wrong_by_little_but_most_of_them_are() -> None:
    kernels = sample_blur_kernels(200, BlurKernelConfig(canvas=31, minimum_size=9), generator=generator(2))
    similarity = kernel_similarity(mistaken_kernels(kernels, generator=generator(3)), kernels)
    assert 0.85 < similarity.mean() < 0.99
    assert (similarity < 0.999).float().mean() > 0.8
    assert similarity.min() > 0.4


def test_a_photograph_that_is_sharp_is_sometimes_taken_for_blurred() -> None:
    point = torch.zeros(200, 15, 15)
    point[:, 7, 7] = 1
    wrong = mistaken_kernels(point, generator=generator(4))
    assert 0.4 < (wrong[:, 7, 7] < 0.7).float().mean() < 0.9


def test_the_centroid_stays_where_it_is() -> None:
    kernels = sample_blur_kernels(200, BlurKernelConfig(canvas=41, maximum_size=31), generator=generator(8))
    wrong = mistaken_kernels(kernels, generator=generator(9))
    offset = torch.arange(41.0)
    for axis in (1, 2):
        distance = ((wrong - kernels).sum(axis) * offset).sum(1).abs()
        # Weight that leaves the grid, and the square pixels, shift the centroid a little.
        assert distance.quantile(0.95) < 0.1
        assert distance.max() < 0.5


def test_the_same_seed_makes_the_same_errors() -> None:
    kernels = sample_blur_kernels(5, BlurKernelConfig(canvas=15), generator=generator(5))
    first, second, other = (mistaken_kernels(kernels, generator=generator(seed)) for seed in (6, 6, 7))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert mistaken_kernels(kernels[:0], generator=generator(6)).shape == (0, 15, 15)


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 3, 5), (3, 3)])
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="blur kernels must be"):
        mistaken_kernels(torch.rand(shape), generator=generator(0))
