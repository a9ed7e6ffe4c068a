import math
from typing import Any

import pytest
import torch
from torch import Tensor

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.data.degradation import DegradationConfig, blur, degrade, with_lights
from asnet.errors import ConfigurationError, InputError
from asnet.evaluation.metrics import kernel_similarity

CLEAN = DegradationConfig(noise=(0.0, 0.0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def delta(count: int, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    kernels = torch.zeros(count, size, size, dtype=dtype)
    kernels[:, size // 2, size // 2] = 1
    return kernels


def degraded(sharp: Tensor, kernels: Tensor, seed: int = 0, **options: object) -> Tensor:
    config = DegradationConfig(**{"noise": (0.0, 0.0), **options})  # type: ignore[arg-type]
    return degrade(sharp, kernels, config, generator=generator(seed))


def convolve_slowly(sharp: Tensor, kernels: Tensor) -> Tensor:
    count, channels, height, width = sharp.shape
    size = kernels.shape[-1]
    result = torch.zeros(count, channels, height - size + 1, width - size + 1, dtype=sharp.dtype)
    for y in range(result.shape[2]):
        for x in range(result.shape[3]):
            for i in range(size):
                for j in range(size):
                    result[:, :, y, x] += (
                        kernels[:, i, j, None] * sharp[:, :, y + size - 1 - i, x + size - 1 - j]
                    )
    return result


@pytest.mark.parametrize("size", [1, 3, 7, 9, 11])
def test_blur_is_the_valid_part_of_a_true_convolution(size: int) -> None:
    sharp = torch.rand(2, 3, size + 5, size + 8, dtype=torch.float64, generator=generator())
    kernels = torch.rand(2, size, size, dtype=torch.float64, generator=generator(1))  # no symmetry at all
    torch.testing.assert_close(blur(sharp, kernels), convolve_slowly(sharp, kernels), rtol=1e-12, atol=1e-12)
    single = blur(sharp.float(), kernels.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), convolve_slowly(sharp, kernels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [3, 31])
def test_blurred_and_sharp_images_are_aligned(size: int) -> None:
    sharp = torch.rand(2, 3, 40, 50, generator=generator())
    half = size // 2
    torch.testing.assert_close(
        blur(sharp, delta(2, size)), sharp[..., half : 40 - half, half : 50 - half], rtol=0, atol=1e-6
    )


def test_sampled_kernels_do_not_shift_a_photograph() -> None:
    """The centroid of a blurred dot is where the dot was."""
    kernels = sample_blur_kernels(8, BlurKernelConfig(canvas=31, minimum_size=15), generator=generator())
    sharp = torch.zeros(8, 1, 91, 91)
    sharp[:, :, 15 + 30, 15 + 30] = 1
    blurred = blur(sharp, kernels)[:, 0]
    grid = torch.arange(61.0) - 30
    assert (blurred.sum(1) * grid).sum(1).abs().max() < 1e-2
    assert (blurred.sum(2) * grid).sum(1).abs().max() < 1e-2


def test_blur_passes_gradients_to_image_and_kernel() -> None:
    sharp = torch.rand(1, 1, 10, 11, dtype=torch.float64, requires_grad=True)
    for size in (3, 9):
        kernels = torch.rand(1, size, size, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(blur, (sharp, kernels))


def test_noise_has_the_standard_deviation_drawn_for_its_image() -> None:
    sharp = torch.full((40, 1, 66, 66), 0.5)
    blurred = degraded(sharp, delta(40, 3), noise=(0.01, 0.05))
    deviations = (blurred - 0.5).std(dim=(1, 2, 3))
    assert deviations.min() > 0.0095
    assert deviations.max() < 0.0525
    assert deviations.max() - deviations.min() > 0.02


def test_correlated_noise_keeps_its_standard_deviation_and_neighbours_are_alike() -> None:
    sharp = torch.full((40, 3, 66, 66), 0.5)
    options = {"noise": (0.02, 0.02), "noise_correlation": (0.8, 0.8), "noise_correlation_probability": 0.5}
    noise = degraded(sharp, delta(40, 3), **options) - 0.5
    assert (noise.std((1, 2, 3)) - 0.02).abs().max() < 0.001
    alike = (noise[..., 1:] * noise[..., :-1]).mean((1, 2, 3)) / 0.02**2
    correlated = alike > 0.3
    assert 10 < correlated.sum() < 30
    # exp(-1 / (4 s^2)) for a Gaussian of standard deviation s.
    assert abs(alike[correlated].mean() - math.exp(-1 / (4 * 0.8**2))) < 0.02
    assert abs(alike[~correlated].mean()) < 0.02


def test_default_noise_is_the_papers_and_is_not_clipped() -> None:
    blurred = degrade(torch.ones(2, 3, 130, 130), delta(2, 3), DegradationConfig(), generator=generator())
    assert abs((blurred - 1).std() - 0.02) < 0.001
    assert abs((blurred - 1).mean()) < 0.001
    assert blurred.max() > 1.02


def test_the_same_seed_gives_the_same_bytes() -> None:
    sharp = torch.rand(3, 3, 46, 46, generator=generator())
    kernels = sample_blur_kernels(3, BlurKernelConfig(), generator=generator())
    options = {
        "noise": (0.0, 0.05),
        "gamma": 2.2,
        "poisson": (200.0, 900.0),
        "saturation": (1.0, 4.0),
        "saturation_probability": 0.5,
        "jpeg": (60, 95),
    }
    first = degraded(sharp, kernels, seed=1, **options)
    assert torch.equal(first, degraded(sharp, kernels, seed=1, **options))
    assert not torch.equal(first, degraded(sharp, kernels, seed=2, **options))


def test_gamma_blurs_in_linear_light() -> None:
    sharp = torch.zeros(1, 1, 3, 6)
    sharp[..., 3:] = 1
    box = torch.full((1, 3, 3), 1 / 9)
    expected = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]) ** (1 / 2.2)
    torch.testing.assert_close(degraded(sharp, box, gamma=2.2)[0, 0, 0], expected, rtol=1e-5, atol=1e-3)
    # Where the image is constant over the kernel's support, the encoding has no effect.
    flat = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(degraded(flat, box, gamma=2.2), flat[..., 1:-1, 1:-1], rtol=1e-5, atol=1e-6)


def test_varying_blur_is_the_kernels_in_the_middle_and_another_at_the_sides() -> None:
    kernels = sample_blur_kernels(
        20, BlurKernelConfig(canvas=41, minimum_size=21, maximum_size=31), generator=generator()
    )
    dots = torch.zeros(20, 1, 201, 201)
    for place in (40, 100, 160):
        dots[:, :, place, 40::60] = 1
    plain = degraded(dots, kernels)
    varying = degraded(dots, kernels, variation=(0.15, 0.15))

    def around(image: Tensor, row: int, column: int) -> Tensor:
        return image[:, 0, row - 40 : row + 1, column - 40 : column + 1]

    middle = kernel_similarity(around(varying, 100, 100), around(plain, 100, 100))
    corners = [
        kernel_similarity(around(varying, row, column), around(plain, row, column))
        for row in (40, 160)
        for column in (40, 160)
    ]
    assert (middle > 0.99).all()
    assert (torch.stack(corners).amin(0) < middle).float().mean() > 0.9
    # Blur moves light and adds none.
    torch.testing.assert_close(
        degraded(torch.full((20, 3, 80, 80), 0.4), kernels, variation=(0.15, 0.15)),
        torch.full((20, 3, 40, 40), 0.4),
    )


def test_variation_chooses_among_the_images() -> None:
    kernels = sample_blur_kernels(40, BlurKernelConfig(canvas=15, minimum_size=9), generator=generator())
    sharp = torch.rand(40, 1, 40, 40, generator=generator())
    varying = degraded(sharp, kernels, variation=(0.2, 0.2), variation_probability=0.5)
    changed = (varying - degraded(sharp, kernels)).abs().amax((1, 2, 3)) > 1e-3
    assert 8 <= changed.sum() <= 32


def test_photon_noise_grows_with_the_root_of_the_light() -> None:
    for level in (0.1, 0.4, 0.9):
        blurred = degraded(torch.full((1, 1, 202, 202), level), delta(1, 3), poisson=(400.0, 400.0))
        expected = (level / 400.0) ** 0.5
        assert abs(blurred.std() - expected) < 0.03 * expected
        assert abs(blurred.mean() - level) < 5 * expected / 200
        # Whole photons.
        torch.testing.assert_close(blurred * 400, (blurred * 400).round(), rtol=0, atol=1e-3)


def test_saturation_lets_lights_outshine_white_and_clips_them() -> None:
    sharp = torch.full((1, 3, 21, 21), 0.2)
    sharp[..., 10, 10] = 1
    box = torch.full((1, 5, 5), 1 / 25)
    plain, saturated = degraded(sharp, box), degraded(sharp, box, saturation=(50.0, 50.0))
    assert plain[0, 0, 8, 8] < 0.25
    assert (saturated[0, :, 6:11, 6:11] == 1).all()
    torch.testing.assert_close(saturated[..., :5, :5], plain[..., :5, :5])
    assert torch.equal(degraded(sharp, box, saturation=(50.0, 50.0), saturation_probability=0.0), plain)


def test_saturation_probability_chooses_among_the_images() -> None:
    blurred = degraded(
        torch.ones(100, 1, 3, 3) * 0.95, delta(100, 3), saturation=(3.0, 3.0), saturation_probability=0.5
    )
    assert 30 < (blurred == 1).sum() < 70


LIGHTS = {"lights": (3, 3), "light_radius": (1.0, 2.0), "light_intensity": (10.0, 10.0)}


def test_lights_outshine_white_and_are_clipped_once_blurred() -> None:
    config = DegradationConfig(noise=(0.0, 0.0), **LIGHTS)  # type: ignore[arg-type]
    dark = torch.full((2, 3, 64, 80), 0.1)
    lit = with_lights(dark, config, generator=generator())
    assert (lit >= dark).all()
    bright = (lit > 1).any(1)
    # Three discs with radii of at most 2 pixels, some of them cut off by the border or overlapping.
    assert (bright.sum((1, 2)) >= 3).all()
    assert (bright.sum((1, 2)) <= 3 * 21).all()
    assert lit.max() <= 10
    box = torch.full((2, 5, 5), 1 / 25)
    blurred = degrade(lit, box, config, generator=generator())
    assert blurred.max() == 1
    clipped = degrade(lit.clamp_max(1), box, config, generator=generator())
    # Much more light arrives than from a photograph whose lights were clipped before the blur.
    assert (blurred - 0.1).sum() > 3 * (clipped - 0.1).sum()


def test_lights_are_seeded_and_each_image_has_its_own() -> None:
    config = DegradationConfig(lights=(1, 9))
    dark = torch.zeros(6, 1, 50, 50)
    lit = with_lights(dark, config, generator=generator(1))
    assert torch.equal(lit, with_lights(dark, config, generator=generator(1)))
    assert len(torch.unique(lit.flatten(1), dim=0)) == 6
    assert not dark.any()


def test_without_lights_nothing_is_drawn() -> None:
    source = generator(2)
    image = torch.rand(1, 3, 20, 20)
    assert torch.equal(with_lights(image, CLEAN, generator=source), image)
    assert torch.equal(source.get_state(), generator(2).get_state())


def test_jpeg_loses_more_at_lower_quality_and_gives_eight_bits() -> None:
    rows = torch.linspace(0, 1, 66)
    sharp = (0.5 + 0.5 * torch.sin(12 * rows[:, None] + 20 * rows[None] ** 2)).expand(1, 3, 66, 66)
    errors = {}
    for quality in (20, 90):
        blurred = degraded(sharp, delta(1, 3), jpeg=(quality, quality))
        torch.testing.assert_close(blurred * 255, (blurred * 255).round(), rtol=0, atol=1e-3)
        errors[quality] = float((blurred - sharp[..., 1:-1, 1:-1]).square().mean().sqrt())
    assert 0 < errors[90] < 0.5 * errors[20]
    assert errors[20] < 0.1


def test_jpeg_takes_grey_images_and_keeps_channels_in_order() -> None:
    grey = torch.full((1, 1, 18, 18), 0.4)
    torch.testing.assert_close(
        degraded(grey, delta(1, 3), jpeg=(95, 95)), grey[..., 1:-1, 1:-1], rtol=0, atol=0.005
    )
    colour = torch.tensor([0.8, 0.4, 0.1])[:, None, None].expand(1, 3, 18, 18)
    result = degraded(colour, delta(1, 3), jpeg=(95, 95))
    torch.testing.assert_close(result, colour[..., 1:-1, 1:-1], rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gamma", {"gamma": 2.2}),
        ("jpeg", {"jpeg": (30, 30)}),
        ("lights", {"lights": (9, 9), "light_radius": (3.0, 3.0)}),
    ],
)
def test_a_share_of_the_images_is_degraded_and_the_others_are_as_without(
    name: str, changes: dict[str, Any]
) -> None:
    sharp = torch.rand(40, 3, 24, 24, generator=torch.Generator().manual_seed(1)) * 0.5
    kernels = torch.full((40, 3, 3), 1 / 9)

    def degraded(**options: Any) -> torch.Tensor:
        config = DegradationConfig(noise=(0.0, 0.0), **options)
        generator = torch.Generator().manual_seed(2)
        lit = with_lights(sharp, config, generator=generator)
        return degrade(lit, kernels, config, generator=generator)

    plain, some = degraded(), degraded(**changes, **{f"{name}_probability": 0.5})
    changed = (some - plain).abs().amax((1, 2, 3)) > 1e-4
    assert 0.2 < changed.float().mean() < 0.8
    for probability, expected in ((0.0, False), (1.0, True)):
        every = degraded(**changes, **{f"{name}_probability": probability})
        assert bool(((every - plain).abs().amax((1, 2, 3)) > 1e-4).all()) == expected


def test_a_larger_exponent_prefers_little_noise() -> None:
    sharp, kernels = torch.full((200, 1, 12, 12), 0.5), torch.ones(200, 1, 1)

    def levels(exponent: float) -> torch.Tensor:
        config = DegradationConfig(noise=(0.0, 0.1), noise_exponent=exponent)
        noisy = degrade(sharp, kernels, config, generator=torch.Generator().manual_seed(3))
        return noisy.std((1, 2, 3))

    assert levels(1.0).mean() == pytest.approx(0.05, rel=0.1)
    assert levels(2.0).mean() == pytest.approx(0.1 / 3, rel=0.1)


def test_quantise_clips_and_rounds_to_eight_bits() -> None:
    sharp = torch.full((1, 1, 34, 34), 0.01)
    blurred = degraded(sharp, delta(1, 3), noise=(0.02, 0.02), quantise=True)
    assert blurred.min() == 0
    torch.testing.assert_close(blurred * 255, (blurred * 255).round(), rtol=0, atol=1e-4)


def test_ranges_read_from_a_configuration_file_may_be_lists() -> None:
    assert DegradationConfig(noise=[0.0, 0.1]).noise == (0.0, 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"noise": (0.1, 0.0)},
        {"noise": (-0.1, 0.0)},
        {"noise": (0.1,)},
        {"noise": 0.1},
        {"noise": None},
        {"noise": (0.0, float("nan"))},
        {"poisson": ("few", "many")},
        {"jpeg": (50.5, 60.5)},
        {"gamma": 0.0},
        {"poisson": (0.0, 10.0)},
        {"saturation": (0.5, 2.0)},
        {"lights": (5, 2)},
        {"lights": (0.5, 2)},
        {"lights": None},
        {"light_radius": (0.1, 1.0)},
        {"light_intensity": (0.5, 2.0)},
        {"saturation_probability": 1.5},
        {"variation": (0.0, 0.5)},
        {"variation_probability": -0.1},
        {"jpeg": (0, 50)},
        {"jpeg": (50, 101)},
    ],
)
def test_unusable_configurations_are_refused_by_name(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        DegradationConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sharp", "kernels"),
    [((2, 3, 9, 9), (1, 3, 3)), ((1, 3, 9, 9), (1, 4, 4)), ((1, 3, 9, 5), (1, 7, 7)), ((3, 9, 9), (1, 3, 3))],
)
def test_shapes_that_do_not_fit_are_refused(sharp: tuple[int, ...], kernels: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        degrade(torch.rand(sharp), torch.rand(kernels), CLEAN, generator=generator())
