"""What the iterated analysis looks at: the luma of blurred photographs, and which of its pixels count."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.networks.kernel_grids import EPSILON
from asnet.networks.latent_image import needed_gradients
from asnet.networks.layers import luma

#: Share of a downscaled pixel that must be clipped, or usable, for it to count as such.
PARTLY, FULLY = 0.02, 0.999

#: Values from which on a pixel counts as clipped at white.
WHITE = 0.97

#: The constants of the analysis are for contrasts, in standard deviations of luma, of this and more. Luma of
#: r times less contrast is multiplied by r to the power of the exponent, up to a limit: what is hazy would
#: have more than the least contrast without the haze.
LEAST_CONTRAST, GAIN_EXPONENT, LARGEST_GAIN = 0.07, 1.5, 5.0


@dataclass(frozen=True)
class Photographs:
    """A batch of blurred photographs at one scale.

    Parameters
    ----------
    luma : Tensor
        (N, 1, H, W), range [0, 1].
    clipped : Tensor or None
        (N, 1, H, W) bool: pixels clipped at white; None if there are none.
    usable : Tensor or None
        (N, 1, H, W) bool: pixels that may take part in an estimate; None if all may.
    """

    luma: Tensor
    clipped: Tensor | None = None
    usable: Tensor | None = None

    @cached_property
    def gradients_without_blur(self) -> Tensor:
        """The `needed_gradients` (N, 1, H, W) of kernels of a single pixel."""
        return needed_gradients(self.luma, self.luma.new_ones(len(self.luma), 1, 1))

    def one_by_one(self) -> list["Photographs"]:
        """Return a batch of one for each of the photographs."""
        if len(self.luma) == 1:
            return [self]

        def parts(values: Tensor | None) -> Sequence[Tensor | None]:
            return [None] * len(self.luma) if values is None else torch.split(values, 1)

        triples = zip(torch.split(self.luma, 1), parts(self.clipped), parts(self.usable), strict=True)
        return [Photographs(*triple) for triple in triples]

    def downscaled(self, scale: int) -> "Photographs":
        """Return the photographs sqrt(2)^scale times smaller, never below 16 pixels a side."""

        def resized(values: Tensor) -> Tensor:
            size = [max(min(16, side), round(side * 0.5 ** (scale / 2))) for side in values.shape[-2:]]
            return F.interpolate(values, size=size, mode="bilinear", antialias=True, align_corners=False)

        if scale == 0:
            return self
        return Photographs(
            resized(self.luma),
            None if self.clipped is None else resized(self.clipped.to(self.luma)) > PARTLY,
            None if self.usable is None else resized(self.usable.to(self.luma)) > FULLY,
        )


def photographs_of(image: Tensor, usable: Tensor | None) -> Photographs:
    """Return luma in float32 or float64, and where it is clipped, of RGB images or luma.

    Images of less than `LEAST_CONTRAST` are multiplied by their `contrast_gain`.
    """
    clipped = image.amax(1, keepdim=True) >= WHITE
    image = luma(image)
    image = image.to(torch.promote_types(image.dtype, torch.float32))
    return Photographs(
        image * contrast_gain(image),
        clipped if bool(clipped.any()) else None,
        None if usable is None or bool(usable.all()) else usable,
    )


def contrast_gain(image: Tensor) -> Tensor:
    """Return by how much (N, 1, 1, 1) the analysis multiplies luma (N, 1, H, W) to see its contrast."""
    deviation = image.std((1, 2, 3), correction=0, keepdim=True)
    lacking = (LEAST_CONTRAST / deviation.clamp(min=EPSILON)).clamp(min=1)
    return lacking.pow(GAIN_EXPONENT).clamp(max=LARGEST_GAIN)
