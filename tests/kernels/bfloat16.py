"""bfloat16 in NumPy, which has no such type: arrays of uint16 that hold the bits."""

import numpy as np
import numpy.typing as npt


def to_bfloat16(values: npt.ArrayLike) -> npt.NDArray[np.uint16]:
    """Bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    array = np.ascontiguousarray(values, np.float32)
    bits = array.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(array), 0x7FFF, rounded).astype(np.uint16)


def from_bfloat16(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The numbers that the bits encode."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
