"""Rival estimates of a large kernel: the synthesis and the latent image tell which is right."""

import pytest
import torch
from test_iterated_analysis import analysis, diagonal_line, photograph
from torch import Tensor

import asnet
from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.data.degradation import blur
from asnet.evaluation.metrics import kernel_similarity
from asnet.networks import DeblurNetwork, fine_scales
from asnet.networks.blurred_photographs import Photographs, photographs_of
from asnet.networks.kernel_grids import fit_grid
from asnet.networks.kernel_rounds import Iteration
from asnet.networks.rival_kernels import RestoreLuma, best_kernel

SIZE = 21


def best(
    photographs: Photographs, kernels: list[Tensor], restore: RestoreLuma, doubtful: tuple[int, ...] = ()
) -> int:
    """Return the index of the best kernel; `doubtful` ones rest on a supposition."""
    doubts = [index in doubtful for index in range(len(kernels))]
    return best_kernel(photographs, kernels, doubts, SIZE, restore)


def turned_line() -> Tensor:
    return diagonal_line().flip(2)


def blurred_and_sharp(lights: int = 0) -> tuple[Tensor, Tensor]:
    """Return a photograph (1, 1, H, W) blurred along `diagonal_line`, and the sharp one."""
    sharp = photograph()[..., :260, :300]
    if lights:
        sharp = 0.5 * sharp
        generator = torch.Generator().manual_seed(1)
        for _ in range(lights):
            row, column = torch.randint(20, 230, (2,), generator=generator).tolist()
            sharp[..., row : row + 2, column : column + 2] = 40.0
    blurred = blur(sharp, diagonal_line())
    noise = torch.randn(blurred.shape, generator=torch.Generator().manual_seed(0))
    margin = diagonal_line().shape[-1] // 2
    return (blurred + 0.005 * noise).clamp(0, 1), sharp[..., margin:-margin, margin:-margin].clamp(0, 1)


@pytest.mark.parametrize("lights", [0, 20])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_the_true_kernel_wins_wherever_it_stands(position: int, lights: int) -> None:
    blurred, _ = blurred_and_sharp(lights)
    wrong = torch.full((1, 9, 9), 1 / 81)
    kernels = [turned_line(), wrong]
    kernels.insert(position, diagonal_line())
    # Every kernel restores the same: the gradients decide.
    assert best(photographs_of(blurred, None), kernels, lambda seen, kernel: seen) == position


def test_the_first_of_equal_kernels_is_preferred() -> None:
    blurred, sharp = blurred_and_sharp()
    kernels = [diagonal_line(), fit_grid(diagonal_line(), 17)]
    assert best(photographs_of(blurred, None), kernels, lambda seen, kernel: sharp) == 0


def test_a_kernel_with_which_next_to_nothing_is_restored_does_not_win() -> None:
    blurred, sharp = blurred_and_sharp()
    true = fit_grid(diagonal_line(), SIZE)

    def restore(seen: Tensor, kernel: Tensor) -> Tensor:
        return torch.full_like(seen, 0.5) if torch.equal(kernel, true) else sharp

    photographs = photographs_of(blurred, None)
    assert best(photographs, [turned_line(), diagonal_line()], restore) == 0
    assert best(photographs, [turned_line(), diagonal_line()], lambda *_: sharp) == 1


def test_a_doubtful_kernel_must_restore_nearly_as_many_edges() -> None:
    blurred, sharp = blurred_and_sharp()
    kernels = [torch.full((1, 9, 9), 1 / 81), diagonal_line()]

    def restore(seen: Tensor, kernel: Tensor) -> Tensor:
        # The right kernel restores the left half alone, which has 0.7 of the edges.
        restored = sharp.clone()
        if torch.equal(kernel, fit_grid(diagonal_line(), SIZE)):
            restored[..., sharp.shape[3] // 2 :] = 0.5
        return restored

    photographs = photographs_of(blurred, None)
    assert best(photographs, kernels, restore) == 1
    assert best(photographs, kernels, restore, doubtful=(1,)) == 0
    assert best(photographs, kernels, lambda *_: sharp, doubtful=(1,)) == 1


def test_edges_decide_between_kernels_that_need_the_same_gradients() -> None:
    blurred, sharp = blurred_and_sharp()
    kernels = [diagonal_line(), diagonal_line()]
    results = iter([blurred, sharp])
    assert best(photographs_of(blurred, None), kernels, lambda *_: next(results)) == 1


def test_unusable_pixels_take_no_part() -> None:
    blurred, sharp = blurred_and_sharp()
    usable = torch.ones_like(blurred, dtype=torch.bool)
    usable[..., :100] = False
    seen = torch.where(usable, blurred, 0.5)
    # The second kernel restores more edges, but only where nothing is known.
    noise = torch.rand(sharp.shape, generator=torch.Generator().manual_seed(3))
    results = iter([sharp, torch.where(usable, sharp, noise)])
    kernels = [diagonal_line(), diagonal_line()]
    assert best(photographs_of(seen, usable), kernels, lambda *_: next(results)) == 0


def test_only_large_kernels_are_judged_by_what_they_restore() -> None:
    judged: list[Tensor] = []

    def restore(seen: Tensor, kernel: Tensor) -> Tensor:
        assert seen.shape[:2] == kernel.shape[:1] * 2 == (1, 1)
        assert float(seen.max()) <= 1
        judged.append(kernel)
        return seen

    analysis(101).estimate(blur(photograph(), diagonal_line()), restore=restore)
    assert not judged
    kernel = torch.zeros(1, 81, 81)
    kernel[0, torch.arange(10, 70), torch.arange(10, 70)] = 1 / 60
    analysis(101).estimate(blur(photograph(), kernel), restore=restore)
    assert len(judged) >= 2
    assert all(each.shape == (1, 101, 101) for each in judged)


@pytest.mark.parametrize("position", [0, -1])
def test_the_estimate_goes_on_from_the_kernel_that_is_chosen(
    position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = torch.zeros(1, 81, 81)
    kernel[0, torch.arange(10, 70), torch.arange(10, 70)] = 1 / 60
    chosen: list[Tensor] = []
    before_last: list[Tensor] = []
    unless_spoiled = fine_scales._unless_spoiled

    def choose(photograph: object, kernels: list[Tensor], *_: object) -> int:
        chosen.append(kernels[position])
        return position % len(kernels)

    def watch(photographs: Photographs, before: Iteration, found: Iteration) -> tuple[Iteration, Tensor]:
        before_last.append(before.kernel)
        return unless_spoiled(photographs, before, found)

    monkeypatch.setattr(fine_scales, "best_kernel", choose)
    monkeypatch.setattr(fine_scales, "_unless_spoiled", watch)
    analysis(101).estimate(blur(photograph(), kernel), restore=lambda seen, kernel: seen)
    assert torch.equal(before_last[0], chosen[0])


def test_large_kernels_are_found_with_the_synthesis() -> None:
    network = asnet.load("compact")
    assert isinstance(network, DeblurNetwork)
    found = []
    for seed in (0, 18, 22, 26):
        generator = torch.Generator().manual_seed(seed)
        config = BlurKernelConfig(canvas=101, minimum_size=71, maximum_size=95)
        kernel = sample_blur_kernels(1, config, generator=generator)
        blurred = blur(photograph()[..., :400, :500], kernel)
        noise = torch.randn(blurred.shape, generator=torch.Generator().manual_seed(seed))
        estimate = network.estimate((blurred + 0.005 * noise).clamp(0, 1))
        found.append(float(kernel_similarity(estimate.kernel, kernel)))
    # 0.84, and 0.55 where the analysis is on its own.
    assert sum(found) / len(found) > 0.72
