import math

import numpy
import pytest
import torch
from numpy.typing import NDArray

from asnet.errors import InputError
from asnet.evaluation.multiscale_ssim import multiscale_ssim

C1, C2 = 2.55**2, 7.65**2
EXPONENTS = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]
TAPS = [
    0.037828455507260,
    -0.023849465019560,
    -0.110624404418440,
    0.377402855612830,
    0.852698679008890,
    0.377402855612830,
    -0.110624404418440,
    -0.023849465019560,
    0.037828455507260,
]

Image = NDArray[numpy.float64]


def images(height: int = 161, width: int = 166) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth blobs and a noisy, darker version of them, float64 in [0, 255]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 1, 20, 20, generator=generator, dtype=torch.float64)
    truth = 255 * torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0, 0]
    return 0.8 * truth + 30 * torch.randn(truth.shape, generator=generator, dtype=torch.float64), truth


def slow_terms(x: Image, y: Image) -> tuple[float, float, float]:
    """Mean luminance, contrast and structure, window by window."""
    offset = numpy.arange(11) - 5
    window = numpy.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            one, two = (image[row : row + 11, column : column + 11] for image in (x, y))
            m1, m2 = (window * one).sum(), (window * two).sum()
            v1, v2 = (window * (one - m1) ** 2).sum(), (window * (two - m2) ** 2).sum()
            v12 = (window * (one - m1) * (two - m2)).sum()
            s1s2 = math.sqrt(v1) * math.sqrt(v2)
            values.append(
                (
                    (2 * m1 * m2 + C1) / (m1**2 + m2**2 + C1),
                    (2 * s1s2 + C2) / (v1 + v2 + C2),
                    (v12 + C2 / 2) / (s1s2 + C2 / 2),
                )
            )
    luminance, contrast, structure = numpy.mean(values, axis=0)
    return float(luminance), float(contrast), float(structure)


def slow_halving(image: Image) -> Image:
    kernel = numpy.outer(TAPS, TAPS)
    kernel /= kernel.sum()
    padded = numpy.pad(image, 4, mode="symmetric")
    rows, columns = range(0, image.shape[0], 2), range(0, image.shape[1], 2)
    return numpy.array([[(kernel * padded[i : i + 9, j : j + 9]).sum() for j in columns] for i in rows])


def test_agrees_with_plain_loops() -> None:
    estimate, truth = images()
    x, y = estimate.numpy(), truth.numpy()
    expected = 1.0
    for scale, exponent in enumerate(EXPONENTS):
        if scale > 0:
            x, y = slow_halving(x), slow_halving(y)
        luminance, contrast, structure = slow_terms(x, y)
        expected *= contrast**exponent * structure**exponent
    expected *= luminance**0.1333
    assert 0.3 < expected < 0.95
    assert multiscale_ssim(estimate, truth) == pytest.approx(expected, rel=1e-10)


def test_equal_images() -> None:
    estimate, _ = images()
    assert multiscale_ssim(estimate, estimate) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("first", "second"), [(100, 100), (40, 200), (0, 255)])
def test_constant_images_leave_the_luminance_term(first: float, second: float) -> None:
    shape = (180, 200)
    x, y = (torch.full(shape, float(value), dtype=torch.float64) for value in (first, second))
    luminance = (2 * first * second + C1) / (first**2 + second**2 + C1)
    assert multiscale_ssim(x, y) == pytest.approx(luminance**0.1333, rel=1e-7)


def test_opposite_structure_counts_as_none() -> None:
    estimate, _ = images()
    assert multiscale_ssim(255 - estimate, estimate) == 0


def test_the_order_of_the_images_does_not_matter() -> None:
    estimate, truth = images()
    assert multiscale_ssim(estimate, truth) == pytest.approx(multiscale_ssim(truth, estimate), rel=1e-12)


def test_images_that_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="161x161 pixels, got 200x160"):
        multiscale_ssim(*(torch.zeros(160, 200, dtype=torch.float64) for _ in range(2)))
    with pytest.raises(InputError, match=r"\(170, 170\) and \(170, 171\)"):
        multiscale_ssim(
            torch.zeros(170, 170, dtype=torch.float64), torch.zeros(170, 171, dtype=torch.float64)
        )
