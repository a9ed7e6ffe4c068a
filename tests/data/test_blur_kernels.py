from typing import Any

import pytest
import torch
from torch import Tensor

from asnet.data.blur_kernels import KERNEL_CLASSES, BlurKernelConfig, sample_blur_kernels, support_size
from asnet.errors import ConfigurationError, InputError
from asnet.networks import SizeClassifierConfig


def sample(count: int, config: BlurKernelConfig, seed: int = 0) -> Tensor:
    return sample_blur_kernels(count, config, generator=torch.Generator().manual_seed(seed))


def centroids(kernels: Tensor) -> Tensor:
    """(N, 2), relative to the canvas centre."""
    grid = torch.arange(kernels.shape[-1], dtype=torch.float64) - kernels.shape[-1] // 2
    weights = kernels.double()
    return torch.stack(((weights.sum(1) * grid).sum(1), (weights.sum(2) * grid).sum(1)), dim=1)


@pytest.mark.parametrize("canvas", [1, 3, 5, 31, 85])
def test_kernels_are_normalised_non_negative_and_centred(canvas: int) -> None:
    kernels = sample(100, BlurKernelConfig(canvas=canvas, minimum_size=1), seed=canvas)
    assert kernels.shape == (100, canvas, canvas)
    assert kernels.dtype == torch.float32
    assert (kernels >= 0).all()
    torch.testing.assert_close(
        kernels.double().sum((1, 2)), torch.ones(100, dtype=torch.float64), rtol=0, atol=1e-6
    )
    assert centroids(kernels).abs().max() < 1e-3


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9, 31, 61])
def test_the_size_asked_for_is_the_size_of_the_support(size: int) -> None:
    kernels = sample(60, BlurKernelConfig(canvas=61, minimum_size=size, maximum_size=size))
    assert (support_size(kernels) == size).all()


def test_the_edge_of_the_support_carries_weight() -> None:
    """Faint fringes do not set the size: thresholded at 1% of the peak, it is hardly smaller."""
    kernels = sample(200, BlurKernelConfig(canvas=31, minimum_size=31))
    peak = kernels.amax((1, 2), keepdim=True)
    visible = support_size(torch.where(kernels > 0.01 * peak, kernels, 0.0)).double()
    assert visible.mean() > 30
    assert visible.min() >= 25


@pytest.mark.parametrize("index", range(len(KERNEL_CLASSES)))
def test_every_class_is_reached_over_its_whole_range(index: int) -> None:
    smallest, largest = KERNEL_CLASSES[index]
    config = BlurKernelConfig.of_class(index)
    assert config.canvas == largest
    sizes = support_size(sample(300, config))
    assert set(sizes.tolist()) == set(range(smallest, largest + 1, 2))
    # Uniform: the mean of 300 draws lies within four standard errors of the middle.
    error = ((largest - smallest + 2) ** 2 / 12 / 300) ** 0.5
    assert abs(sizes.double().mean() - (smallest + largest) / 2) < 4 * error


def test_size_one_is_a_delta() -> None:
    kernels = sample(5, BlurKernelConfig(canvas=7, minimum_size=1, maximum_size=1))
    expected = torch.zeros(5, 7, 7)
    expected[:, 3, 3] = 1
    assert torch.equal(kernels, expected)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    config = BlurKernelConfig()
    first = sample(70, config, seed=3)
    assert torch.equal(first, sample(70, config, seed=3))
    assert not torch.equal(first, sample(70, config, seed=4))
    assert len(torch.unique(first.flatten(1), dim=0)) == 70


def test_kernels_are_thin_paths_of_uneven_brightness() -> None:
    kernels = sample(200, BlurKernelConfig(canvas=61, minimum_size=41))
    peak = kernels.amax((1, 2), keepdim=True)
    area = (kernels > 0.1 * peak).sum((1, 2)).double()
    assert area.median() < 0.15 * 61 * 61
    assert (area >= 5).all()
    # Spread of brightness along the path, over pixels well inside it.
    spread = torch.stack([(k[k > 0.05 * k.max()].std() / k[k > 0.05 * k.max()].mean()) for k in kernels])
    assert spread.median() > 0.3


def test_kernels_point_in_all_directions() -> None:
    kernels = sample(600, BlurKernelConfig(canvas=31, minimum_size=21)).double()
    grid = torch.arange(31, dtype=torch.float64) - 15
    horizontal = (kernels.sum(1) * grid.square()).sum(1)
    vertical = (kernels.sum(2) * grid.square()).sum(1)
    mixed = (kernels * grid[:, None] * grid[None]).sum((1, 2))
    angle = 0.5 * torch.atan2(2 * mixed, horizontal - vertical)
    counts = torch.histc(angle, bins=4, min=-torch.pi / 2, max=torch.pi / 2)
    assert counts.min() > 90  # 150 expected


VARIANTS = ({"thin_probability": 1.0}, {"tail_probability": 1.0}, {"loop_probability": 1.0})


@pytest.mark.parametrize("variant", [*VARIANTS, {name: 0.5 for part in VARIANTS for name in part}])
@pytest.mark.parametrize("size", [1, 3, 31, 101])
def test_other_paths_and_sensors_keep_every_promise(variant: dict[str, float], size: int) -> None:
    config = BlurKernelConfig(canvas=size, minimum_size=size, **variant)
    kernels = sample(40, config)
    assert (support_size(kernels) == size).all()
    assert (kernels >= 0).all()
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(40))
    assert centroids(kernels).abs().max() < 2e-3
    assert torch.equal(kernels, sample(40, config))


def test_thin_kernels_are_one_pixel_wide() -> None:
    """An open path one pixel wide, splatted onto its neighbours, is at most two pixels across."""
    soft, thin = (
        sample(100, BlurKernelConfig(canvas=61, minimum_size=61, thin_probability=probability))
        for probability in (0.0, 1.0)
    )
    assert torch.equal(soft, sample(100, BlurKernelConfig(canvas=61, minimum_size=61)))
    areas = [(kernels > 0.02 * kernels.amax((1, 2), keepdim=True)).sum((1, 2)) for kernels in (soft, thin)]
    assert areas[1].double().mean() < 0.7 * areas[0].double().mean()
    # Without spreading, the brightest pixel holds more of the weight.
    assert thin.amax((1, 2)).median() > 1.3 * soft.amax((1, 2)).median()


def test_tails_are_long_and_faint() -> None:
    """The fainter half of the nonzero pixels carries a small part of the weight."""

    def faint(kernels: Tensor) -> Tensor:
        shares = []
        for kernel in kernels:
            values = kernel[kernel > 0].sort().values
            shares.append(values[: len(values) // 2].sum())
        return torch.stack(shares)

    plain, tailed = (
        sample(200, BlurKernelConfig(canvas=61, minimum_size=61, thin_probability=1.0, tail_probability=tail))
        for tail in (0.0, 1.0)
    )
    assert faint(tailed).median() < 0.6 * faint(plain).median()


def test_loops_surround_their_centre() -> None:
    """Seen from its centroid a loop lies in most directions, a random walk in few."""

    def directions(kernels: Tensor) -> Tensor:
        grid = torch.arange(61.0) - 30
        octant = ((torch.atan2(grid[:, None], grid[None]) / torch.pi + 1) * 4).long().clamp_max(7)
        # The squeeze along one axis puts much of a loop into two of them.
        weights = torch.stack([(kernels * (octant == index)).sum((1, 2)) for index in range(8)])
        return (weights > 0.02).sum(0)

    walks, loops = (
        sample(200, BlurKernelConfig(canvas=61, minimum_size=61, thin_probability=1.0, loop_probability=loop))
        for loop in (0.0, 1.0)
    )
    assert directions(loops).double().mean() > directions(walks).double().mean() + 1


def test_a_share_of_the_kernels_is_thin() -> None:
    kernels = sample(400, BlurKernelConfig(canvas=31, minimum_size=31, thin_probability=0.25))
    peaks = kernels.amax((1, 2))
    all_thin = sample(400, BlurKernelConfig(canvas=31, minimum_size=31, thin_probability=1.0))
    share = torch.isclose(peaks, all_thin.amax((1, 2))).double().mean()
    assert 0.17 < share < 0.33


def test_no_kernels_and_a_negative_count() -> None:
    assert sample(0, BlurKernelConfig()).shape == (0, 31, 31)
    with pytest.raises(InputError, match="-1"):
        sample(-1, BlurKernelConfig())


@pytest.mark.parametrize(
    "arguments",
    [
        {"canvas": 30},
        {"canvas": -3},
        {"minimum_size": 0},
        {"minimum_size": 33},
        {"maximum_size": 33},
        {"minimum_size": 9, "maximum_size": 7},
        {"minimum_size": 8, "maximum_size": 8},
        {"class_sizes": (9, 20)},
        {"class_sizes": (21, 9)},
        {"class_sizes": (9, 9)},
        {"thin_probability": 1.5},
        {"tail_probability": -0.1},
        {"loop_probability": float("nan")},
    ],
)
def test_unusable_configurations_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        BlurKernelConfig(**arguments)


def test_unknown_class_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="3"):
        BlurKernelConfig.of_class(3)


def test_a_class_on_a_larger_canvas() -> None:
    kernels = sample(20, BlurKernelConfig.of_class(0, canvas=85))
    assert kernels.shape[-1] == 85
    assert support_size(kernels).max() <= 31


def test_classes_are_drawn_evenly_and_sizes_evenly_within_them() -> None:
    # One, five and two sizes; the class up to 61 has no part of the range.
    config = BlurKernelConfig(canvas=31, minimum_size=15, class_sizes=(15, 25, 29, 61))
    assert config.odd_sizes_of_classes == ((15, 15), (17, 25), (27, 29), (31, 31))
    counts = torch.bincount(support_size(sample(2000, config)))
    for expected, sizes in ((500, (15,)), (100, (17, 19, 21, 23, 25)), (250, (27, 29)), (500, (31,))):
        for size in sizes:
            # Five standard deviations of a Poisson count.
            assert abs(int(counts[size]) - expected) < 5 * expected**0.5


def test_the_paper_s_classes_are_drawn_evenly() -> None:
    sizes = tuple(largest for _, largest in KERNEL_CLASSES)
    config = BlurKernelConfig(canvas=85, minimum_size=1, class_sizes=sizes)
    assert config.odd_sizes_of_classes == KERNEL_CLASSES
    assert SizeClassifierConfig().class_sizes == sizes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu_and_repeats_itself() -> None:
    config = BlurKernelConfig(canvas=61)
    on_cpu = sample(100, config)
    on_cuda = sample_blur_kernels(100, config, generator=torch.Generator().manual_seed(0), device="cuda")
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, rtol=0, atol=1e-4)
    repeats = [
        sample_blur_kernels(100, config, generator=torch.Generator("cuda").manual_seed(5), device="cuda")
        for _ in range(2)
    ]
    assert torch.equal(*repeats)
    assert centroids(repeats[0].cpu()).abs().max() < 1e-2
