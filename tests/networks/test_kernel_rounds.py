"""What the rounds of a scale share."""

import pytest
import torch

from asnet.networks.kernel_rounds import grown


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 22])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (13, 30)])
def test_masks_grow_to_squares_around_their_pixels(size: tuple[int, int], radius: int) -> None:
    mask = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(radius)) < 0.02
    mask[0, 0, -1, 0] = True
    expected = torch.zeros_like(mask)
    for n, _, y, x in mask.nonzero().tolist():
        expected[n, 0, max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1] = True
    before = mask.clone()
    assert torch.equal(grown(mask, radius), expected)
    assert torch.equal(mask, before)
