"""Resizing in parts gives what resizing the whole gives."""

from itertools import pairwise
from typing import Literal

import pytest
import torch
from torch.nn import functional

from asnet.deblurring.resampling import downscale, resized_rows
from asnet.imaging import unit_range


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(40, 60), (39, 61), (20, 30), (77, 118)])
def test_rows_of_an_enlarged_image_are_those_of_all_of_it(
    mode: Literal["bilinear", "bicubic"], size: tuple[int, int]
) -> None:
    image = torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    whole = functional.interpolate(image, size=size, mode=mode, align_corners=False)
    cuts = [0, 1, 7, size[0] - 1, size[0]]
    rows = [resized_rows(image, size, slice(begin, end), mode) for begin, end in pairwise(cuts)]
    torch.testing.assert_close(torch.cat(rows, 2), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_integers_are_downscaled_like_floating_point(channels: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (1, channels, 41, 70), generator=generator).to(dtype)
    assert downscale(image, 1) is image
    torch.testing.assert_close(downscale(image, 2), downscale(unit_range(image), 2))
