"""What the iterated analysis looks at: the luma of blurred photographs, and which of its pixels count."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.networks.kernel_grids import EPSILON
from asnet.networks.latent_image import needed_gradients, share_of_pixels
from asnet.networks.layers import luma

#: Share of a downscaled pixel that must be clipped, or usable, for it to count as such.
PARTLY, FULLY = 0.02, 0.999

#: Values from which on a pixel counts as clipped at white.
WHITE = 0.97

#: Where this share of a photograph is of this brightness or more, as of an overexposed page or sky, white is
#: its ground, which is as bright as it seems: taken for lights that may be brighter, it would explain
#: anything. With lower values, estimates of photographs with some clipped sky suffer.
WHITE_GROUND, LEAST_GROUND = 0.9, 0.5

#: The constants of the analysis are for contrasts, in standard deviations of luma, of this and more. Luma of
#: r times less contrast is multiplied by r to the power of the exponent, up to a limit. The exponent is above
#: 1 because without its haze such a photograph would exceed the least contrast.
LEAST_CONTRAST, GAIN_EXPONENT, LARGEST_GAIN = 0.07, 1.5, 5.0


@dataclass(frozen=True)
class Photographs:
    """A batch of blurred photographs at one scale.

    Parameters
    ----------
    luma : Tensor
        (N, 1, H, W), not negative: range [0, 1] times `gain`.
    clipped : Tensor or None
        (N, 1, H, W) bool: pixels clipped at white, which may be brighter; None if there are none.
    usable : Tensor or None
        (N, 1, H, W) bool: pixels that may take part in an estimate; None if all may.
    gain : Tensor
        (N, 1, 1, 1): by how much luma was multiplied.
    brightness : Tensor or None
        (N, 1, H, W), range [0, 1]: the brightest channel, if pixels are clipped; None at all scales but the
        first.
    """

    luma: Tensor
    clipped: Tensor | None
    usable: Tensor | None
    gain: Tensor
    brightness: Tensor | None = None

    @cached_property
    def gradients_without_blur(self) -> Tensor:
        """The `needed_gradients` (N, 1, H, W) of kernels of a single pixel."""
        return needed_gradients(self.luma, self.luma.new_ones(len(self.luma), 1, 1))

    def one_by_one(self) -> list["Photographs"]:
        """Return a batch of one for each of the photographs, as if there had never been others beside it."""
        if len(self.luma) == 1:
            return [self]

        def parts(values: Tensor | None) -> Sequence[Tensor | None]:
            return [None] * len(self.luma) if values is None else torch.split(values, 1)

        clipped = [_unless_empty(mask) for mask in parts(self.clipped)]
        usable = [_unless_full(mask) for mask in parts(self.usable)]
        brightness = [
            values if mask is not None else None
            for values, mask in zip(parts(self.brightness), clipped, strict=True)
        ]
        fields = zip(
            torch.split(self.luma, 1), clipped, usable, torch.split(self.gain, 1), brightness, strict=True
        )
        return [Photographs(*values) for values in fields]

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
            self.gain,
        )


def photographs_of(image: Tensor, usable: Tensor | None) -> Photographs:
    """Return luma in float32 or float64, and where it is clipped, of RGB images or luma.

    Luma of little contrast is multiplied, see `contrast_gain`. A white ground counts as not clipped.
    """
    brightness = image.amax(1, keepdim=True)
    ground = share_of_pixels(brightness >= WHITE_GROUND, usable) >= LEAST_GROUND
    clipped = (brightness >= WHITE) & ~ground[:, None, None, None]
    image = luma(image)
    image = image.to(torch.promote_types(image.dtype, torch.float32))
    seen = _with_contrast(image, clipped, usable)
    return seen if seen.clipped is None else replace(seen, brightness=brightness.to(image))


def without(photograph: Photographs, marks: Tensor, filled: Tensor) -> Photographs:
    """Return a photograph without marked pixels (1, 1, H, W), in which luma `filled` is not usable."""
    usable = ~marks if photograph.usable is None else photograph.usable & ~marks
    clipped = torch.zeros_like(marks) if photograph.clipped is None else photograph.clipped & ~marks
    return _with_contrast(filled, clipped, usable)


def _with_contrast(image: Tensor, clipped: Tensor, usable: Tensor | None) -> Photographs:
    """Multiply luma (N, 1, H, W) by its gain; masks that leave nothing out become None."""
    gain = contrast_gain(image, clipped, usable)
    return Photographs(image * gain, _unless_empty(clipped), _unless_full(usable), gain)


def _unless_empty(mask: Tensor | None) -> Tensor | None:
    return mask if mask is not None and bool(mask.any()) else None


def _unless_full(mask: Tensor | None) -> Tensor | None:
    return None if mask is None or bool(mask.all()) else mask


def contrast_gain(image: Tensor, clipped: Tensor, usable: Tensor | None) -> Tensor:
    """Return by how much (N, 1, 1, 1) the analysis multiplies luma (N, 1, H, W) to see its contrast.

    By nothing where pixels are clipped: a night with few lights has little contrast, but no haze. `usable`
    tells which pixels show the photograph, by default all.
    """
    weights = torch.ones_like(image) if usable is None else usable.to(image)
    weights = weights / weights.sum((1, 2, 3), keepdim=True).clamp(min=1)
    mean = (weights * image).sum((1, 2, 3), keepdim=True)
    deviation = (weights * (image - mean).square()).sum((1, 2, 3), keepdim=True).sqrt()
    lacking = (LEAST_CONTRAST / deviation.clamp(min=EPSILON)).clamp(min=1)
    gain = lacking.pow(GAIN_EXPONENT).clamp(max=LARGEST_GAIN)
    return torch.where(clipped.flatten(1).any(1)[:, None, None, None], 1.0, gain)
