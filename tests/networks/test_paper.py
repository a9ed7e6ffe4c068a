"""Pages of text: how they are told from photographs, and how their blur is found."""

import random

import pytest
import torch
from test_iterated_analysis import analysis, photograph
from torch import Tensor

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.data.degradation import blur
from asnet.data.text_pages import text_page
from asnet.evaluation.metrics import kernel_similarity
from asnet.networks import fine_scales
from asnet.networks.blurred_photographs import photographs_of
from asnet.networks.layers import luma
from asnet.networks.paper import paper_luma


def blurred_page(seed: int, size: int = 21) -> tuple[Tensor, Tensor]:
    """Return luma (1, 1, H, W) of a blurred page with noise, and its kernel."""
    page = luma(text_page(400, 480, 44, 24, random.Random(seed))[None])
    generator = torch.Generator().manual_seed(seed)
    config = BlurKernelConfig(canvas=size, minimum_size=size)
    kernel = sample_blur_kernels(1, config, generator=generator)
    blurred = blur(page, kernel)
    noise = torch.randn(blurred.shape, generator=generator)
    return (blurred + 0.005 * noise).clamp(0, 1), kernel


def found_paper(image: Tensor, usable: Tensor | None = None, *, large_blur: bool = True) -> float | None:
    """Return luma of the paper of an image (1, 1, H, W), range [0, 1]; None if it is no page."""
    photographs = photographs_of(image, usable)
    paper = paper_luma(photographs, large_blur=large_blur)
    return None if paper is None else paper / float(photographs.gain)


@pytest.mark.parametrize("seed", range(4))
def test_a_blurred_page_is_one_and_its_paper_is_found(seed: int) -> None:
    blurred, _ = blurred_page(seed)
    paper = found_paper(blurred)
    assert paper is not None
    assert abs(paper - float(blurred.quantile(0.9))) < 0.05


def test_photographs_and_white_letters_on_black_are_no_pages() -> None:
    blurred, _ = blurred_page(0)
    assert found_paper(photograph()) is None
    assert found_paper(1 - blurred) is None
    assert found_paper(torch.full((1, 1, 40, 50), 0.8)) is None


def test_large_blur_leaves_less_of_the_paper() -> None:
    small, _ = blurred_page(0, 5)
    large, _ = blurred_page(0, 61)
    assert found_paper(small, large_blur=False) is not None
    assert found_paper(large, large_blur=False) is None
    assert found_paper(large) is not None


def test_unusable_pixels_show_no_paper() -> None:
    blurred, _ = blurred_page(1)
    usable = torch.ones_like(blurred, dtype=torch.bool)
    usable[..., :150] = False
    hidden = torch.where(usable, blurred, 1.0)
    paper, alone = found_paper(hidden, usable), found_paper(blurred[..., 150:])
    assert paper is not None
    assert alone is not None
    assert paper == pytest.approx(alone, abs=0.02)
    # A photograph beside a white area is none, either.
    photo = photograph()
    known = torch.ones_like(photo, dtype=torch.bool)
    known[..., : photo.shape[-1] // 2] = False
    assert found_paper(torch.where(known, photo, 1.0), known) is None
    assert found_paper(hidden, torch.zeros_like(usable)) is None


def test_the_blur_of_pages_is_found_by_their_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [blurred_page(seed, 31) for seed in (0, 2)]
    network = analysis(41)

    def similarity() -> float:
        found = [float(kernel_similarity(network.estimate(page).kernel, kernel)) for page, kernel in pages]
        return sum(found) / len(found)

    with_paper = similarity()
    monkeypatch.setattr(fine_scales, "paper_luma", lambda photograph, large_blur: None)
    # 0.94, and 0.71 without.
    assert with_paper > 0.85
    assert with_paper > similarity() + 0.1


@pytest.mark.parametrize("seed", [0, 2])
def test_the_blur_of_an_overexposed_page_is_found(seed: int) -> None:
    page, kernel = blurred_page(seed, 31)
    overexposed = (1.4 * page).clamp(max=1)
    assert float((overexposed >= 1).float().mean()) > 0.5
    assert float(kernel_similarity(analysis(41).estimate(overexposed).kernel, kernel)) > 0.75
