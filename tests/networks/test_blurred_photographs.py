"""Photographs as the analysis sees them: little contrast is amplified, and nothing else changes."""

import pytest
import torch
from torch import Tensor

from asnet.networks import iterated_analysis
from asnet.networks.blurred_photographs import LEAST_CONTRAST, Photographs, photographs_of, without
from asnet.networks.iterated_analysis import IteratedAnalysisNetwork


def image(deviation: float, seed: int = 0, side: int = 40) -> Tensor:
    """Return noise (1, 1, side, side) around 0.5 of a given standard deviation."""
    noise = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise = (noise - noise.mean()) / noise.std(correction=0)
    return (0.5 + deviation * noise.clamp(-3, 3)).float()


def gain(photographs: Photographs) -> Tensor:
    return photographs.gain.flatten()


def test_only_little_contrast_is_amplified_and_never_more_than_fivefold() -> None:
    deviations = [0.2, 0.08, 0.06, 0.03, 0.002, 0.0]
    gains = gain(photographs_of(torch.cat([image(deviation) for deviation in deviations]), None))
    assert gains[:2].tolist() == [1, 1]
    assert gains[2] == pytest.approx((LEAST_CONTRAST / 0.06) ** 1.5, rel=0.02)
    assert gains.tolist() == sorted(gains.tolist())
    assert gains[-2:].tolist() == [5, 5]


def test_images_of_a_batch_are_amplified_one_by_one() -> None:
    images = [image(0.2), image(0.04, seed=1)]
    batch = photographs_of(torch.cat(images), None)
    for one, alone in zip(batch.one_by_one(), images, strict=True):
        expected = photographs_of(alone, None)
        assert torch.equal(one.luma, expected.luma)
        assert torch.equal(gain(one), gain(expected))
    torch.testing.assert_close(batch.luma / batch.gain, torch.cat(images))
    assert torch.equal(torch.cat(images) * batch.gain, batch.luma)
    assert torch.equal(gain(batch.downscaled(2)), gain(batch))


def test_brightness_is_that_of_the_brightest_channel_where_something_is_clipped() -> None:
    coloured = image(0.1).expand(1, 3, -1, -1) * torch.tensor([0.6, 1.0, 0.8])[:, None, None]
    assert photographs_of(coloured, None).brightness is None
    coloured[0, 2, 5, 7] = 1.0
    both = photographs_of(torch.cat([coloured, coloured.flip(3)]), None)
    for one, expected in zip(both.one_by_one(), (coloured, coloured.flip(3)), strict=True):
        assert one.brightness is not None
        assert torch.equal(one.brightness, expected.amax(1, keepdim=True))


def test_without_marked_pixels_the_contrast_is_that_of_the_others() -> None:
    lit = image(0.03)
    lit[..., 10:12, 20:30] = 1.0
    usable = torch.ones_like(lit, dtype=torch.bool)
    usable[..., :5] = False
    whole = photographs_of(lit, usable)
    assert gain(whole) == 1
    marks = lit >= 1
    rest = without(whole, marks, torch.where(marks, 0.5, lit))
    assert rest.clipped is None
    assert gain(rest) > 2
    assert rest.usable is not None
    assert torch.equal(rest.usable, usable & ~marks)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_luma_is_at_least_single_precision(dtype: torch.dtype) -> None:
    photographs = photographs_of(image(0.04).to(dtype), None)
    assert photographs.luma.dtype == torch.promote_types(dtype, torch.float32)


def test_contrast_is_that_of_usable_pixels() -> None:
    usable = torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    usable[..., :10] = True
    bars = torch.where(usable, image(0.12), 0.5)
    assert gain(photographs_of(bars, None)) > 1
    assert gain(photographs_of(bars, usable)) == 1


def test_a_night_with_few_lights_is_not_amplified() -> None:
    night = image(0.01) - 0.4
    night[..., :2, :2] = 1.0
    photographs = photographs_of(night, None)
    assert gain(photographs) == 1
    assert photographs.clipped is not None
    assert int(photographs.clipped.sum()) == 4


def test_white_of_which_most_is_made_is_a_ground_and_no_lights() -> None:
    page = torch.full((1, 1, 40, 40), 1.0)
    page[..., 10:20, 5:35] = 0.2
    assert photographs_of(page, None).clipped is None
    grey = page * 0.7
    grey[..., :4, :4] = 1.0
    both = photographs_of(torch.cat([page, grey]), None)
    # Each photograph has a ground of its own.
    assert both.clipped is not None
    assert both.clipped.flatten(1).sum(1).tolist() == [0, 16]
    # What is not usable shows no ground: most of the usable part is dark.
    usable = torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    usable[..., 8:22, :] = True
    seen = photographs_of(page, usable)
    assert seen.clipped is not None
    assert torch.equal(seen.clipped, page >= 1)
    assert photographs_of(page, torch.zeros_like(usable)).clipped is not None


def test_amplified_steps_of_eight_bits_do_not_look_like_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smooth slope of little contrast, in whole levels: its steps are no edges."""
    slope = torch.linspace(0.45, 0.55, 200)
    levels = ((slope[:, None] + slope) / 2 * 255).round() / 255
    network = IteratedAnalysisNetwork(iterated_analysis.IteratedAnalysisConfig(kernel_size=9)).eval()
    # A small kernel, so that the steepness decides.
    small = torch.zeros(1, 9, 9)
    small[0, 4, 3:6] = 1 / 3
    monkeypatch.setattr(network, "_refined", lambda last: small)
    assert not network.estimate(levels[None, None]).sharp


def test_photographs_of_a_batch_have_the_masks_that_they_have_alone() -> None:
    lit = image(0.1)
    lit[..., :2, :2] = 1.0
    images = torch.cat([image(0.1), lit])
    usable = torch.ones_like(images, dtype=torch.bool)
    usable[1, :, 10:12] = False
    together = photographs_of(images, usable).one_by_one()
    for index, photograph in enumerate(together):
        alone = photographs_of(images[index : index + 1], usable[index : index + 1])
        for name in ("clipped", "usable", "brightness"):
            expected, found = getattr(alone, name), getattr(photograph, name)
            assert (found is None) == (expected is None) == (index == 0)
            assert expected is None or torch.equal(found, expected)
