"""The blur kernel of a uniform motion along a line."""

import itertools
import math

import torch
from torch import Tensor

from asnet.errors import InputError
from asnet.imaging.kernel_files import fit_kernel

#: Longest line in pixels.
LONGEST_LINE = 1000

_SAMPLES_PER_PIXEL = 64


def line_kernel(length: float, angle: float) -> Tensor:
    """Return the blur kernel of a camera that moves uniformly along a line during the exposure.

    It is the mean of linearly interpolated shifts by up to half the length in both directions.

    Parameters
    ----------
    length : float
        Distance of the motion in pixels, above 0 and at most 1000.
    angle : float
        Direction in degrees, counter-clockwise from the horizontal.

    Returns
    -------
    Tensor
        (K, K) float32 of sum 1, K odd.

    Raises
    ------
    InputError
        If the length or the angle is not as described.

    Examples
    --------
    >>> line_kernel(2, 0)[1]
    tensor([0.2500, 0.5000, 0.2500])
    """
    if not 0 < length <= LONGEST_LINE:
        raise InputError(
            f"the length of a line must be above 0 and at most {LONGEST_LINE} pixels, got {length:g}"
        )
    if not math.isfinite(angle):
        raise InputError(f"the angle of a line must be a number of degrees, got {angle:g}")
    count = _SAMPLES_PER_PIXEL * math.ceil(length)
    # Midpoints of equal pieces, symmetric about the middle of the line; rows grow downwards.
    along = ((torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5) * length
    column, row = along * math.cos(math.radians(angle)), -along * math.sin(math.radians(angle))
    radius = math.ceil(length / 2) + 1
    side = 2 * radius + 1
    kernel = torch.zeros(side * side, dtype=torch.float64)
    low = [axis.floor() for axis in (row, column)]
    part = [axis - whole for axis, whole in zip((row, column), low, strict=True)]
    for down, right in itertools.product((0, 1), repeat=2):
        weights = [share if step else 1 - share for share, step in zip(part, (down, right), strict=True)]
        places = (low[0] + radius + down) * side + low[1] + radius + right
        kernel += torch.bincount(places.long(), weights[0] * weights[1], minlength=side * side)
    kernel = kernel.view(side, side)
    # Rounding errors around zero must not widen the kernel.
    return fit_kernel(kernel.where(kernel > 1e-9 * kernel.sum(), 0.0))


def parse_line(text: str) -> Tensor:
    """Return the blur kernel of a line given as LENGTH,ANGLE.

    Raises
    ------
    InputError
        If the text is something else; see `line_kernel`.
    """
    try:
        length, angle = map(float, text.split(","))
    except ValueError:
        raise InputError(f"a line must be LENGTH,ANGLE in pixels and degrees, got {text!r}") from None
    return line_kernel(length, angle)
