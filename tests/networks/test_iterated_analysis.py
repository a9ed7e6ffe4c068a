"""The iterated analysis as a whole: it finds blur untrained, and reports when it does not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.data.degradation import blur
from asnet.errors import ConfigurationError
from asnet.evaluation.metrics import kernel_similarity
from asnet.networks import fine_scales, iterated_analysis
from asnet.networks.blurred_photographs import photographs_of
from asnet.networks.config import IteratedAnalysisConfig
from asnet.networks.courses import FineSchedule
from asnet.networks.image_pyramid import ImagePyramid
from asnet.networks.iterated_analysis import IteratedAnalysisNetwork
from asnet.networks.kernel_grids import rms_radius
from asnet.networks.kernel_rounds import Iteration
from asnet.networks.latent_image import needed_gradients

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sharp.jpg"

SMALL = IteratedAnalysisConfig(kernel_size=9, finest_rounds=1, refiner_channels=4)


def random_image(seed: int, height: int = 40, width: int = 44, channels: int = 3) -> torch.Tensor:
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(seed))


def patches(seed: int = 3, cells: int = 24) -> torch.Tensor:
    """Patches of constant brightness, whose edges are like a photograph's."""
    values = torch.rand(1, 1, cells, cells, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(values, scale_factor=12, mode="nearest")


def photograph() -> torch.Tensor:
    with Image.open(EXAMPLE) as picture:
        return torch.from_numpy(np.asarray(picture.convert("L"), np.float32) / 255)[None, None]


def diagonal_line() -> torch.Tensor:
    line = torch.zeros(1, 15, 15)
    line[0, torch.arange(3, 12), torch.arange(3, 12)] = 1 / 9
    return line


def analysis(kernel_size: int = 15) -> IteratedAnalysisNetwork:
    torch.manual_seed(0)
    return IteratedAnalysisNetwork(IteratedAnalysisConfig(kernel_size=kernel_size)).eval()


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (64, 48)])
def test_kernels_are_not_negative_and_sum_to_one_for_any_image_size(height: int, width: int) -> None:
    kernel = IteratedAnalysisNetwork(SMALL).eval()(random_image(1, height, width))
    assert kernel.shape == (2, 9, 9)
    assert (kernel >= 0).all()
    torch.testing.assert_close(kernel.sum((1, 2)), torch.ones(2))


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_images_without_any_structure_give_kernels_and_are_contradictory(value: float) -> None:
    estimate = analysis(9).estimate(torch.full((1, 3, 40, 40), value))
    torch.testing.assert_close(estimate.kernel.sum(), torch.tensor(1.0))
    assert not estimate.sharp
    assert estimate.contradictory


def test_images_of_a_batch_do_not_mix() -> None:
    line = diagonal_line()
    blurred = torch.cat([blur(patches(), line), blur(patches(4), line.transpose(1, 2).flip(1))])
    alone = torch.cat([analysis()(image[None]) for image in blurred])
    assert (kernel_similarity(analysis()(blurred), alone) > 0.99).all()


def test_a_loss_on_the_kernel_reaches_every_parameter() -> None:
    network = IteratedAnalysisNetwork(SMALL)
    # The last layer starts from 0 and hides the others.
    torch.nn.init.normal_(network.refiner.last.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    network(random_image(8)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        if name != "refiner.last.bias":
            assert parameter.grad.abs().max() > 0, name


def test_an_asymmetric_blur_is_told_from_its_flip_without_any_training() -> None:
    kernel = torch.zeros(1, 15, 15)
    kernel[0, 7, 3:9] = 1
    kernel[0, 3:8, 9] = 2
    kernel /= kernel.sum()
    estimate = analysis()(blur(patches(), kernel))
    assert kernel_similarity(estimate, kernel) > 0.7
    assert kernel_similarity(estimate, kernel) > kernel_similarity(estimate.flip(1, 2), kernel) + 0.1


@pytest.mark.parametrize("length", [5, 15, 41])
def test_the_size_of_the_blur_is_found_on_one_grid(length: int) -> None:
    kernel = torch.zeros(1, 61, 61)
    along = torch.arange(length) + 30 - length // 2
    kernel[0, along, along // 2 + 15] = 1 / length
    estimate = analysis(61)(blur(photograph(), kernel))
    assert kernel_similarity(estimate, kernel) > 0.6


def test_a_large_kernel_is_found_although_much_of_the_photograph_depends_on_what_is_beyond_its_edges() -> (
    None
):
    kernel = torch.zeros(1, 81, 81)
    along = torch.arange(60)
    kernel[0, 10 + along // 2, along] = 1
    kernel[0, 40:64, 59] = 1
    kernel /= kernel.sum()
    estimate = analysis(101)(blur(photograph(), kernel))
    # 0.42 with a made-up continuation of the photograph.
    assert kernel_similarity(estimate, kernel) > 0.6


@pytest.mark.parametrize("first", [0, 1])
def test_the_schedule_with_fewer_gradients_wins(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of two schedules is the first does not matter if one spoils the kernel."""
    network = analysis(61)
    blurred = blur(photograph()[..., :300, :300], diagonal_line())
    expected = network(blurred)
    schedules = fine_scales.fine_schedules

    def with_spoilt(noise: float, scales: int, rounds: int) -> list[FineSchedule]:
        normal = schedules(noise, scales, rounds)[0]
        spoilt = normal._replace(smallest_weight=0.99)
        return [normal, spoilt] if first == 0 else [spoilt, normal]

    monkeypatch.setattr(fine_scales, "fine_schedules", with_spoilt)
    assert torch.equal(network(blurred), expected)


def test_a_kernel_is_found_in_a_photograph_of_little_contrast() -> None:
    kernel = torch.zeros(1, 61, 61)
    along = torch.arange(40)
    kernel[0, 15 + along // 2, 10 + along] = 1 / 40
    blurred = blur(photograph(), kernel)
    hazy = (blurred - blurred.mean()) * 0.15 + 0.5
    noise = torch.randn(hazy.shape, generator=torch.Generator().manual_seed(1))
    estimate = analysis(101)(hazy + 0.002 * noise)
    # 0.24 without regard to the contrast.
    assert kernel_similarity(estimate, kernel) > 0.6


def test_a_large_kernel_is_found_in_noise() -> None:
    kernel = torch.zeros(1, 81, 81)
    kernel[0, 20:60, 20] = kernel[0, 59, 20:60] = 1
    along = torch.arange(20, 60)
    kernel[0, along, along] = 0.5
    kernel /= kernel.sum()
    blurred = blur(photograph(), kernel)
    noise = torch.randn(blurred.shape, generator=torch.Generator().manual_seed(1))
    estimate = analysis(101)((blurred + 0.02 * noise).clamp(0, 1))
    # 0.46 where lambda does not follow the noise.
    assert kernel_similarity(estimate, kernel) > 0.55


@pytest.mark.parametrize("seed", [1, 2])
def test_few_soft_edges_do_not_make_a_large_kernel(seed: int) -> None:
    """Coarse scales hold almost nothing of a small blur: their estimate must give way to a small kernel."""
    kernel = torch.zeros(1, 3, 3)
    kernel[0, 1, :2] = 0.5
    generator = torch.Generator().manual_seed(seed)
    shades = torch.rand(1, 1, 6, 6, generator=generator)
    image = torch.nn.functional.interpolate(shades, size=(320, 320), mode="bicubic") * 0.4 + 0.3
    down, across = torch.meshgrid(torch.arange(320.0), torch.arange(320.0), indexing="ij")
    for _ in range(3):
        top, left, radius, value = torch.rand(4, generator=generator).tolist()
        distance = torch.hypot(down - 320 * top, across - 320 * left)
        disc = (0.5 - (distance - (8 + 40 * radius)) / 2.5).clamp(0, 1)
        image = torch.lerp(image, torch.tensor(0.1 + 0.8 * value), disc)
    noise = torch.randn(1, 1, 318, 318, generator=torch.Generator().manual_seed(0))
    estimate = analysis(101).estimate(blur(image, kernel) + 0.005 * noise)
    assert rms_radius(estimate.kernel) < 5


def test_a_large_kernel_that_leaves_nothing_but_slopes_does_not_give_way_to_a_small_one() -> None:
    """Slopes need no gradients, and the true latent image does; on the small grid nothing small is found."""
    config = BlurKernelConfig(canvas=101, minimum_size=95, maximum_size=101)
    kernel = sample_blur_kernels(1, config, generator=torch.Generator().manual_seed(3))
    blurred = blur(photograph(), kernel)
    noise = torch.randn(blurred.shape, generator=torch.Generator().manual_seed(1))
    photographs = photographs_of((blurred + 0.003 * noise).clamp(0, 1), None)
    needed = needed_gradients(photographs.luma, kernel)
    assert needed.sum() > 1.4 * photographs.gradients_without_blur.sum()
    found = Iteration(kernel, torch.ones(1), torch.zeros(1, 5, 101, 101))
    network = analysis(101)
    pyramid = ImagePyramid(photographs, network.config, 3)
    assert torch.equal(network._or_smaller(found, needed, pyramid).kernel, kernel)


def test_an_estimate_says_what_speaks_against_it() -> None:
    sharp = patches()
    blurred = blur(sharp, diagonal_line())
    both = analysis().estimate(torch.cat([sharp[..., 7:-7, 7:-7], blurred]))
    assert both.sharp.tolist() == [True, False]
    assert not both.contradictory[1]
    noise = torch.rand(1, 1, 200, 200, generator=torch.Generator().manual_seed(7))
    assert not analysis().estimate(noise).sharp or analysis().estimate(noise).contradictory


def test_a_small_kernel_that_explains_nothing_is_no_blur(monkeypatch: pytest.MonkeyPatch) -> None:
    """A photograph with almost no blur, for which the rounds estimate a small but wrong kernel."""
    network = analysis()
    sharp = photograph()[..., :300, :300]
    wrong = torch.zeros(1, 15, 15)
    wrong[0, 7, 4:11] = 1 / 7
    monkeypatch.setattr(network, "_refined", lambda last: wrong)
    monkeypatch.setattr(iterated_analysis, "edge_steepness", lambda *_: torch.tensor([0.5]))
    assert network.estimate(sharp).sharp
    assert not network.estimate(blur(sharp, wrong)).sharp


def test_courses_that_disagree_speak_against_an_estimate_unless_it_is_large_and_explains_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = analysis()
    blurred = blur(photograph()[..., :300, :300], diagonal_line())
    iterate = network._iterate
    monkeypatch.setattr(network, "_iterate", lambda *given: (iterate(*given)[0], torch.tensor([0.5])))
    assert network.estimate(blurred).contradictory
    # The line's RMS radius is 3.7 pixels.
    monkeypatch.setattr(iterated_analysis, "SHARP_RADIUS", 3.0)
    assert not network.estimate(blurred).contradictory
    monkeypatch.setattr(iterated_analysis, "LARGEST_SHARE", 0.1)
    assert network.estimate(blurred).contradictory


def test_blurred_lights_that_are_cut_off_at_white_do_not_look_sharp() -> None:
    night = torch.full((1, 1, 240, 240), 0.05)
    generator = torch.Generator().manual_seed(2)
    for _ in range(30):
        row, column = torch.randint(10, 220, (2,), generator=generator).tolist()
        night[..., row : row + 3, column : column + 3] = 60.0
    blurred = blur(night, diagonal_line()).clamp(max=1)
    assert not analysis().estimate(blurred).sharp


def test_a_large_kernel_is_found_at_night_and_not_taken_for_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What streaks say comes later.
    monkeypatch.setattr(iterated_analysis, "estimate_by_streaks", lambda *arguments: None)
    config = BlurKernelConfig(canvas=101, minimum_size=61, maximum_size=81)
    kernel = sample_blur_kernels(1, config, generator=torch.Generator().manual_seed(4))
    night = 0.3 * photograph()
    generator = torch.Generator().manual_seed(4)
    for _ in range(12):
        row, column = (int(torch.randint(20, side - 20, (), generator=generator)) for side in night.shape[2:])
        night[..., row : row + 2, column : column + 2] = 40.0
    blurred = blur(night, kernel)
    noise = torch.randn(blurred.shape, generator=generator)
    estimate = analysis(101)((blurred + 0.005 * noise).clamp(0, 1))
    # 0.43, of an RMS radius of 1.2 instead of 27 pixels, where a small kernel may take its place.
    assert kernel_similarity(estimate, kernel) > 0.7


def test_what_is_not_usable_takes_no_part() -> None:
    network = analysis()
    line = diagonal_line()
    blurred = blur(photograph()[..., :400, :400], line)
    usable = torch.ones_like(blurred, dtype=torch.bool)
    # A hole in the photograph, with edges that no blur softened.
    usable[..., 120:220, 90:300] = False
    pierced = torch.where(usable, blurred, 0.0)
    estimate, misled = network.estimate(pierced, usable), network.estimate(pierced)
    assert not estimate.sharp
    assert misled.sharp
    assert kernel_similarity(estimate.kernel, line) > max(0.8, kernel_similarity(misled.kernel, line))
    nothing = network.estimate(pierced, torch.zeros_like(usable))
    assert nothing.contradictory
    assert nothing.kernel.isfinite().all()


def test_refined_kernels_are_centred_and_lose_their_smallest_weights_but_for_training() -> None:
    network = analysis()
    blurred = blur(patches(), diagonal_line())
    kernel, training = network(blurred), network.train()(blurred)
    positions = torch.arange(15) - 7
    for axis in (1, 2):
        assert ((kernel.sum(axis) * positions).sum(1).abs() < 0.2).all()
    assert kernel[kernel > 0].min() > 0.02 * kernel.max()
    assert (training > 0).all()


def test_scales_shrink_by_the_square_root_of_two_down_to_a_grid_of_five() -> None:
    config = IteratedAnalysisConfig(kernel_size=31)
    assert [config.grid_size(scale) for scale in range(config.scale_count)] == [31, 23, 17, 11, 9, 7]
    assert IteratedAnalysisConfig(kernel_size=5).scale_count == 1


@pytest.mark.parametrize(
    "values", [{"kernel_size": 8}, {"kernel_size": 3}, {"finest_rounds": 0}, {"refiner_channels": 0}]
)
def test_unusable_sizes_are_named(values: dict[str, int]) -> None:
    name, value = next(iter(values.items()))
    with pytest.raises(ConfigurationError, match=f"{name}.*{value}"):
        IteratedAnalysisConfig(**values)


class ReadBack(TorchDispatchMode):
    """Collects the operations that make the host wait for values of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> object:
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default):
            self.operations.append(str(function))
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize(("cells", "count"), [(24, 4), (32, 3)])
def test_on_a_gpu_few_values_are_read_back(cells: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True))
    monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda tensor: False))
    with ReadBack() as reads:
        analysis().estimate(blur(patches(cells=cells), diagonal_line()))
    # Whether anything is clipped, the noise, the extent of the kernel, and in small photographs the schedule;
    # the order of the courses and the paper are read as lists, which do not show here.
    assert len(reads.operations) == count
