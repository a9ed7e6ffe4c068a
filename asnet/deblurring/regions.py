"""Regions of photographs: the part from which a blur kernel is estimated."""

import operator
from typing import NamedTuple

from torch import Tensor

from asnet.deblurring.resampling import SMALLEST_SIDE
from asnet.errors import InputError


class Region(NamedTuple):
    """A rectangle of whole pixels as for Pillow's `crop`: right and bottom are the first ones outside."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def parse(cls, text: str) -> "Region":
        """Read LEFT,TOP,RIGHT,BOTTOM.

        Raises
        ------
        InputError
            If the text is something else.
        """
        parts = [part.strip() for part in text.split(",")]
        if len(parts) != 4 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
            raise InputError(f"a region must be LEFT,TOP,RIGHT,BOTTOM in whole pixels, got {text!r}")
        return cls(*map(int, parts))


def region_slices(region: tuple[int, int, int, int], image: Tensor, scale: int = 1) -> tuple[slice, slice]:
    """Return rows and columns of a region of an image (..., H, W), after checking it.

    Raises
    ------
    InputError
        If the region leaves the image, or a side is too small for being downscaled by `scale`.
    """
    height, width = image.shape[-2:]
    try:
        left, top, right, bottom = map(operator.index, region)
    except (TypeError, ValueError):
        raise InputError(
            f"a region must be (left, top, right, bottom) in whole pixels, got {region!r}"
        ) from None
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise InputError(
            f"the region {left},{top},{right},{bottom} must lie in the image of {width}x{height} pixels, "
            "with left before right and top before bottom"
        )
    smallest = scale * SMALLEST_SIDE
    if min(right - left, bottom - top) < smallest:
        at_scale = f" at scale {scale}" if scale > 1 else ""
        raise InputError(
            f"a region must have at least {smallest}x{smallest} pixels{at_scale}, "
            f"got {right - left}x{bottom - top}"
        )
    return slice(top, bottom), slice(left, right)
