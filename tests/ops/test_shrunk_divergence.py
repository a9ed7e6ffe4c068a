"""Divergences of shrunk differences against the formula, pixel by pixel and in float64."""

import math
import sys

import pytest
import torch
from accuracy import assert_as_accurate
from torch import Tensor

from asnet.errors import AsnetError, InputError
from asnet.ops import reference, shrunk_divergence

# (N, C, H, W): single pixels, rows and columns, widths around registers, heights around the 16 rows of a
# task.
CASES = [
    (1, 1, 1, 1), (2, 3, 1, 2), (1, 3, 2, 1), (2, 1, 1, 9), (1, 2, 9, 1), (1, 3, 15, 4), (3, 2, 16, 5),
    (1, 3, 17, 8), (2, 5, 2, 15), (1, 1, 31, 16), (1, 4, 32, 17), (1, 3, 33, 33), (2, 3, 49, 70),
]  # fmt: skip

THRESHOLDS = [0.0, 0.2, 0.9, 10.0]


def problem(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Images with large and small differences."""
    random = torch.Generator().manual_seed(sum(shape))
    return (torch.randn(shape, generator=random, dtype=torch.float64) ** 3).to(dtype)


def by_formula(image: Tensor, threshold: float) -> Tensor:
    """D^T g of an image (C, H, W), each difference taken from the one pixel and added to the other."""
    channels, height, width = image.shape
    pixels, divergence = image.flatten(1), torch.zeros(channels, height * width, dtype=image.dtype)
    for y in range(height):
        for x in range(width):
            here, right, below = (
                row % height * width + column % width for row, column in ((y, x), (y, x + 1), (y + 1, x))
            )
            across, down = pixels[:, right] - pixels[:, here], pixels[:, below] - pixels[:, here]
            size = math.sqrt(float(across.square().sum() + down.square().sum()) / channels)
            kept = max(0.0, 1 - threshold / size) if size > 0 else 0.0
            for other, difference in ((right, across), (below, down)):
                divergence[:, other] += kept * difference
                divergence[:, here] -= kept * difference
    return divergence.view_as(image)


@pytest.fixture(params=["kernel", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The implementation: the kernel, or its replacement on devices that have none."""
    if request.param == "torch":
        module = sys.modules[shrunk_divergence.__module__]
        monkeypatch.setattr(module, "_DEVICES_WITH_KERNEL", frozenset())
    return request.param


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 3), (1, 4, 1), (3, 5, 6), (2, 17, 3)])
@pytest.mark.usefixtures("poisoned", "path")
def test_result_is_that_of_the_formula(shape, threshold):
    image = problem(*shape)
    result = shrunk_divergence(image[None], torch.tensor([threshold], dtype=torch.float64))
    torch.testing.assert_close(result[0], by_formula(image, threshold), rtol=0, atol=1e-12)


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", CASES)
@pytest.mark.usefixtures("poisoned")
def test_result_is_as_accurate_as_that_of_torch(shape, dtype, threshold):
    images = problem(*shape, dtype=dtype)
    thresholds = threshold * torch.linspace(0.5, 1.0, shape[0], dtype=dtype)
    result = shrunk_divergence(images, thresholds)
    assert result.dtype == dtype
    exact = reference.shrunk_divergence(images.double(), thresholds.double())
    eager = reference.shrunk_divergence(images, thresholds)
    # Terms of both signs, of the size of the pixels' values, are added up.
    assert_as_accurate(result, eager, exact, partial_sums=float(images.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.usefixtures("path")
def test_images_without_differences_give_zeros(dtype):
    images = torch.full((1, 3, 20, 9), 0.3, dtype=dtype)
    for threshold in (0.0, 0.1):
        assert (shrunk_divergence(images, torch.tensor([threshold], dtype=dtype)) == 0).all()


def test_strides_and_the_batch_make_no_difference_and_arguments_stay_unchanged():
    images, thresholds = problem(3, 2, 20, 12), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    expected = shrunk_divergence(images, thresholds)
    views = [
        images.transpose(2, 3).contiguous().transpose(2, 3),
        images.to(memory_format=torch.channels_last),
        torch.nn.functional.pad(images, (3, 5, 1, 2))[..., 1:-2, 3:-5],
    ]
    strided = thresholds.repeat_interleave(2)[::2]
    for view in views:
        before = view.clone()
        assert torch.equal(shrunk_divergence(view, strided), expected)
        assert torch.equal(view, before)
    assert torch.equal(shrunk_divergence(images[1:2], thresholds[1:2]), expected[1:2])
    shared = thresholds[:1].expand(3)
    assert torch.equal(shrunk_divergence(images, shared), shrunk_divergence(images, shared.contiguous()))


def test_bits_do_not_depend_on_the_number_of_threads():
    images, threshold = problem(1, 3, 150, 90, dtype=torch.float32), torch.tensor([0.5])
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(shrunk_divergence(images, threshold))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[1], results[0])
    assert torch.equal(results[2], results[0])


def test_a_shift_of_the_image_shifts_the_bits_of_the_result():
    """Whatever row and register of a task a pixel lies in."""
    images, threshold = problem(1, 3, 37, 41, dtype=torch.float32), torch.tensor([0.5])
    moved = shrunk_divergence(images.roll((5, 7), (2, 3)), threshold)
    assert torch.equal(moved, shrunk_divergence(images, threshold).roll((5, 7), (2, 3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype):
    torch.library.opcheck(
        torch.ops.asnet.shrunk_divergence.default,
        (problem(2, 3, 9, 7, dtype=dtype), torch.tensor([0.1, 0.5], dtype=dtype)),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


@pytest.mark.parametrize("shape", [(0, 3, 8, 9), (2, 0, 8, 9), (2, 3, 0, 9), (2, 3, 8, 0)])
@pytest.mark.usefixtures("path")
def test_without_pixels_there_is_no_result(shape):
    assert shrunk_divergence(torch.empty(shape), torch.zeros(shape[0])).shape == shape


@pytest.mark.parametrize("shape", [(1, 1, 3, 4), (2, 3, 4, 3)])
def test_gradcheck(shape):
    images = problem(*shape).requires_grad_()
    thresholds = torch.linspace(0.3, 0.6, shape[0], dtype=torch.float64).requires_grad_()
    for given in ((images, thresholds), (images, thresholds.detach()), (images.detach(), thresholds)):
        assert torch.autograd.gradcheck(shrunk_divergence, given, fast_mode=True)


def test_gradients_are_recorded_only_where_they_are_needed():
    images, threshold = problem(1, 2, 8, 9).requires_grad_(), torch.tensor([0.5], dtype=torch.float64)
    with torch.no_grad():
        result = shrunk_divergence(images, threshold)
    assert torch.equal(result, shrunk_divergence(images.detach(), threshold))
    torch.testing.assert_close(shrunk_divergence(images, threshold).detach(), result)


def test_a_derivative_of_the_kernel_is_refused_by_name():
    images = problem(1, 2, 8, 9).requires_grad_()
    result = torch.ops.asnet.shrunk_divergence(images, torch.ones(1, dtype=torch.float64))
    with pytest.raises(AsnetError, match=r"inference-only; asnet\.ops\.shrunk_divergence has one"):
        result.sum().backward()


@pytest.mark.parametrize(
    ("images", "threshold"),
    [((3, 8, 9), (3,)), ((2, 3, 8, 9), (1,)), ((2, 3, 8, 9), (2, 1)), ((1, 3, 8, 9), ())],
)
def test_shapes_that_do_not_fit_are_named(images, threshold):
    with pytest.raises(InputError) as caught:
        shrunk_divergence(torch.zeros(images), torch.zeros(threshold))
    assert str(caught.value).endswith(f"threshold (N,), got {images} and {threshold}")


@pytest.mark.parametrize(
    ("images", "threshold", "words"),
    [
        (torch.zeros(1, 3, 8, 9).half(), torch.zeros(1).half(), "dtype Half, expected float32 or float64"),
        (torch.zeros(3, 8, 9), torch.zeros(3), "images has 3 dimensions, expected 4"),
        (torch.zeros(1, 3, 8, 9), torch.zeros(1).double(), "threshold must have the dtype and the device"),
        (torch.zeros(2, 3, 8, 9), torch.zeros(1), r"threshold must have the shape \(2\)"),
        (torch.zeros(1, 3, 8, 9), torch.zeros(1, 1), r"threshold must have the shape \(1\)"),
    ],
)
def test_the_operator_prints_what_it_refuses(images, threshold, words):
    with pytest.raises(RuntimeError, match=words):
        torch.ops.asnet.shrunk_divergence(images, threshold)
