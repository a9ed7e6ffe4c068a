"""The example of README.md."""

import numpy as np
import pytest
from bfloat16 import from_bfloat16, to_bfloat16


@pytest.mark.parametrize("width", [1, 63, 64, 65, 200])
def test_reverse_rows(kernels, thread_order, width):
    image = np.random.default_rng(0).normal(size=(3, width)).astype(np.float32)
    result = np.full_like(image, np.nan)
    kernels.reverse_rows(image, result)
    np.testing.assert_array_equal(result, image[:, ::-1])


def test_reverse_rows_in_bfloat16(kernels):
    image = to_bfloat16(np.random.default_rng(0).normal(size=(2, 70)))
    result = to_bfloat16(np.full(image.shape, np.nan))
    kernels.reverse_rows(image, result)
    np.testing.assert_array_equal(from_bfloat16(result), from_bfloat16(image)[:, ::-1])
