"""Error budget of a kernel that rounds a sum once: the error of the sum plus half a step of the type."""

import numpy as np
import numpy.typing as npt
from bfloat16 import from_bfloat16, to_bfloat16

#: Element types by name; bfloat16 is held as its bits.
DTYPES = {"float32": np.float32, "float64": np.float64, "bfloat16": np.uint16, "float16": np.float16}

_EPSILON = {"float32": 2.0**-23, "float64": 2.0**-52, "bfloat16": 2.0**-7, "float16": 2.0**-10}
#: Smallest normal numbers: below them the steps no longer shrink.
_TINY = {"float32": 2.0**-126, "float64": 2.0**-1022, "bfloat16": 2.0**-126, "float16": 2.0**-14}


def encode(values: npt.NDArray[np.float64], dtype: str) -> npt.NDArray[np.generic]:
    """The values in the storage of an element type."""
    return to_bfloat16(values) if dtype == "bfloat16" else np.ascontiguousarray(values, DTYPES[dtype])


def decode(array: npt.NDArray[np.generic], dtype: str) -> npt.NDArray[np.float64]:
    """The values of an array of `encode`."""
    return (from_bfloat16(array) if dtype == "bfloat16" else array).astype(np.float64)


def poisoned(shape: tuple[int, ...], dtype: str) -> npt.NDArray[np.generic]:
    """An output filled with NaN."""
    return encode(np.full(shape, np.nan), dtype)


def assert_rounded_once(
    result: npt.NDArray[np.generic],
    dtype: str,
    exact: npt.NDArray[np.float64],
    magnitude: npt.NDArray[np.float64],
    sum_roundings: float,
) -> None:
    """``|result - exact| <= half a step of the type + sum_roundings * rounding of the sum * magnitude``.

    `magnitude` is the sum of the absolute values of an element's terms. A sum in float32 (float64 for
    float64) loses some roundings of it, in whatever order.
    """
    values = decode(result, dtype)
    assert np.isfinite(values).all(), f"{np.count_nonzero(~np.isfinite(values))} elements were not written"
    error = np.abs(values - exact)
    sum_rounding = _EPSILON["float64" if dtype == "float64" else "float32"] / 2
    step = _EPSILON[dtype] * np.maximum(np.exp2(np.floor(np.log2(np.abs(exact) + 1e-300))), _TINY[dtype])
    budget = step / 2 + sum_roundings * sum_rounding * magnitude
    worst = np.unravel_index(np.argmax(error - budget), error.shape)
    assert (error <= budget).all(), (
        f"{np.count_nonzero(error > budget)} of {error.size} elements are off; at {worst} "
        f"{values[worst]:.9g} instead of {exact[worst]:.9g}, allowed is {budget[worst]:.3g}"
    )
