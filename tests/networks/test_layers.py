"""Layers against their definitions written out."""

import pytest
import torch
from torch.nn import functional as F

from asnet.errors import InputError
from asnet.networks.layers import (
    DownConvolution,
    UnpoolConvolution,
    UpConvolution,
    luma,
    mix_channels,
    normalise_maps,
    standardise,
)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize(("height", "width"), [(8, 12), (7, 12), (9, 5)])
def test_down_convolution_pads_its_odd_row_at_the_far_side(size: int, height: int, width: int) -> None:
    layer = DownConvolution(1, 1, size)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    image = torch.randn(1, 1, height, width)
    result = layer(image)
    assert result.shape == (1, 1, -(-height // 2), -(-width // 2))
    # Keras: as many rows as the windows need, the smaller half of them in front.
    front = [max((-(-length // 2) - 1) * 2 + size - length, 0) // 2 for length in (height, width)]
    for row in range(result.shape[2]):
        for column in range(result.shape[3]):
            top, left = 2 * row - front[0], 2 * column - front[1]
            window = image[0, 0, max(top, 0) : top + size, max(left, 0) : left + size]
            assert result[0, 0, row, column].item() == pytest.approx(window.sum().item(), abs=1e-5)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_up_convolution_is_the_transpose_of_the_down_convolution(size: int) -> None:
    up, down = UpConvolution(3, 2, size).double(), DownConvolution(2, 3, size).double()
    down.weight = up.weight
    torch.nn.init.zeros_(down.bias)
    coarse = torch.randn(1, 3, 5, 6, dtype=torch.float64)
    fine = torch.randn(1, 2, 10, 12, dtype=torch.float64)
    raised = up(coarse) - up.bias[:, None, None]
    assert raised.shape == fine.shape
    torch.testing.assert_close((raised * fine).sum(), (coarse * down(fine)).sum())


@pytest.mark.parametrize("size", [1, 3, 5])
def test_unpool_convolution_repeats_pixels_before_it_convolves(size: int) -> None:
    layer = UnpoolConvolution(3, 2, size).double()
    coarse = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    repeated = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = F.conv2d(repeated, layer.weight, layer.bias, padding=size // 2)
    torch.testing.assert_close(layer(coarse), expected)


def test_luma_weighs_the_channels_and_keeps_grey_images() -> None:
    image = torch.rand(2, 3, 4, 5)
    expected = (image * torch.tensor([0.2989, 0.5870, 0.1140]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(luma(image), expected)
    assert luma(image[:, :1]).data_ptr() == image.data_ptr()
    with pytest.raises(InputError, match=r"\(2, 2, 4, 5\)"):
        luma(image[:, :2])


def test_standardise_removes_scale_and_offset() -> None:
    image = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(standardise(image), standardise(200 * image + 30), atol=1e-4, rtol=1e-4)
    assert standardise(torch.full((1, 1, 4, 4), 0.5)).abs().max() == 0


@torch.no_grad()
def test_channels_are_mixed_as_by_a_convolution() -> None:
    # More pixels than are mixed at once.
    x = torch.randn(2, 5, 70, 121, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(5, 5, 1, 1, dtype=torch.float64)
    expected = F.conv2d(x, weight)
    torch.testing.assert_close(mix_channels(x, weight), expected)


def test_normalised_maps_have_unit_norm_and_constant_ones_vanish() -> None:
    features = torch.randn(2, 3, 8, 9) * torch.tensor([1e-3, 1.0, 1e3]).view(1, 3, 1, 1) + 5
    features[0, 0] = 0.25
    features.requires_grad_()
    maps = normalise_maps(features)
    norms = maps.square().sum((2, 3))
    assert norms[0, 0] == 0
    torch.testing.assert_close(norms.flatten()[1:], torch.ones(5), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(maps.sum((2, 3)), torch.zeros(2, 3), atol=1e-2, rtol=0)
    F.relu(maps).sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
