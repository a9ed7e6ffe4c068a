"""The result of a deblurring in the photograph's own type, filled part by part."""

import math

import torch
from torch import Tensor

from asnet.deblurring.photographed_area import USABLE_TRUST, PhotographedArea
from asnet.deblurring.resampling import SMALLEST_SIDE
from asnet.imaging.pixels import network_input, quantised, unit_range

#: The pixels of the smallest grey photograph that can be deblurred.
FEWEST_VALUES = SMALLEST_SIDE**2


class Canvas:
    """A copy of a picture that receives restored parts of its photographed area.

    Whole photographs keep their own type; only the part being written is in floating point.

    Parameters
    ----------
    picture : Tensor
        (1 or 3, H, W), uint8, uint16 or floating point in [0, 1]; the result is on its device.
    area : PhotographedArea
        Its photographed part.
    strength : float
        Weight of the restoration in the blend, from 0 to 1.
    measures_change : bool
        Whether `contrast_and_change` will be called.
    """

    def __init__(
        self,
        picture: Tensor,
        area: PhotographedArea,
        *,
        strength: float = 1.0,
        measures_change: bool = False,
    ) -> None:
        self.image = picture.clamp(0, 1) if picture.is_floating_point() else picture.clone()
        self._picture = picture
        self._area = area
        self._strength = strength
        # Number, sum and sum of squares of the usable values, and sum of squares of their changes.
        self._sums = torch.zeros(4, dtype=torch.float64) if measures_change else None

    def put(self, rows: slice, columns: slice, restored: Tensor) -> None:
        """Write restored pixels (1, 3, h, w) to these rows and columns of the photographed area."""
        area, picture = self._area, self._picture
        sharp = restored[0].clamp(0, 1)
        trust = None if area.trust is None else area.trust[rows, columns].to(sharp.device)
        if self._sums is not None:
            self._measure(network_input(area.pixels[None, :, rows, columns], sharp.device)[0], sharp, trust)
        if picture.shape[0] == 1:
            sharp = sharp.mean(0, keepdim=True)
        place = (
            slice(None),
            *(
                slice(outer.start + inner.start, outer.start + inner.stop)
                for outer, inner in zip(area.rectangle, (rows, columns), strict=True)
            ),
        )
        if trust is not None or self._strength < 1:
            # In the picture's own type if possible, so that pixels outside the area stay exactly the same.
            given = picture[place] if picture.is_floating_point() else unit_range(picture[place])
            given = given.to(sharp.device).clamp(0, 1)
            sharp = sharp.to(given.dtype)
            if trust is not None:
                sharp = torch.lerp(given, sharp, trust.to(given.dtype))
            if self._strength < 1:
                sharp = torch.lerp(given, sharp, self._strength)
        self.image[place] = quantised(sharp, picture.dtype).to(self.image.device)

    def contrast_and_change(self) -> tuple[float, float]:
        """Return the variance of the photographed area and the mean square of its change.

        Both are NaN if the area is smaller than any photograph that can be deblurred.
        """
        assert self._sums is not None
        count, total, squares, changes = self._sums.tolist()
        if count < FEWEST_VALUES:
            return math.nan, math.nan
        return squares / count - (total / count) ** 2, changes / count

    def _measure(self, before: Tensor, after: Tensor, trust: Tensor | None) -> None:
        assert self._sums is not None
        if trust is not None:
            usable = trust >= USABLE_TRUST
            before, after = before[:, usable], after[:, usable]
        before, change = before.double(), (after - before).double()
        self._sums += torch.stack(
            [
                torch.tensor(float(before.numel()), dtype=torch.float64),
                *(values.sum().cpu() for values in (before, before.square(), change.square())),
            ]
        )
