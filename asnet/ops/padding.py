"""Images continued beyond their edges."""

import torch
from torch import Tensor


def pad_symmetric(image: Tensor, height: int, width: int) -> Tensor:
    """Continue an image (N, C, H, W) at the bottom and the right to height x width by mirroring it.

    The edge pixels are repeated (d c b a | a b c d | d c b a), as often as the size requires.
    """
    for dimension, target in ((2, height), (3, width)):
        length = image.shape[dimension]
        if target > length:
            position = torch.arange(target, device=image.device) % (2 * length)
            image = image.index_select(dimension, torch.minimum(position, 2 * length - 1 - position))
    return image
