"""Gathered images against the formula, pixel by pixel and in float64."""

import sys
from typing import Any

import pytest
import torch
from accuracy import assert_as_accurate
from torch import Tensor
from torch.nn import functional as F

from asnet.errors import AsnetError, InputError
from asnet.ops import gather_images, reference

# Images, (N, C, H, W), factor, size: one pixel, mirrored more than once, columns around registers and around
# the 32 that are gathered at a time, parts that begin in the image and end beyond it, sizes of one block.
CASES = [
    (1, (1, 1, 1, 1), 1, (1, 1)), (2, (2, 3, 1, 1), 2, (4, 6)), (3, (1, 2, 3, 2), 3, (12, 9)),
    (2, (1, 3, 2, 3), 2, (2, 26)), (1, (1, 1, 5, 4), 1, (7, 70)), (3, (2, 3, 7, 31), 1, (8, 33)),
    (5, (1, 3, 9, 33), 1, (9, 33)), (2, (1, 3, 16, 64), 2, (16, 64)), (5, (2, 3, 15, 63), 2, (16, 66)),
    (2, (1, 3, 10, 17), 2, (20, 130)), (2, (1, 1, 21, 95), 3, (21, 96)), (4, (1, 3, 12, 100), 3, (24, 198)),
    (2, (1, 2, 6, 8), 4, (8, 8)),
]  # fmt: skip

DTYPES = [torch.float32, torch.bfloat16]


def problem(count: int, shape: tuple[int, ...]) -> tuple[list[Tensor], Tensor]:
    """Images that differ little, and another mean."""
    random = torch.Generator().manual_seed(sum(shape))
    first = torch.rand(shape, generator=random)
    others = [first + 0.1 * torch.randn(shape, generator=random) for _ in range(count - 1)]
    return [first, *others], torch.rand(shape[:2], generator=random)


def gather(
    function: Any,
    images: list[Tensor],
    factor: int,
    size: tuple[int, int],
    dtype: torch.dtype,
    mean: Tensor | None = None,
) -> Tensor:
    options = {"scale": 1.7} if mean is None else {"scale": 1.7, "difference_scale": 2.5}
    result: Tensor = function(images, factor, size, dtype, mean=mean, **options)
    return result


def by_formula(
    images: list[Tensor],
    factor: int,
    size: tuple[int, int],
    dtype: torch.dtype,
    *,
    mean,
    scale,
    difference_scale=1.0,
) -> Tensor:
    first = images[0]
    N, C, H, W = first.shape
    gathered = torch.zeros(N, len(images) * C * factor**2, size[0] // factor, size[1] // factor, dtype=dtype)
    for row in range(size[0]):
        for column in range(size[1]):
            y, x = row % (2 * H), column % (2 * W)
            y, x = min(y, 2 * H - 1 - y), min(x, 2 * W - 1 - x)
            for index, image in enumerate(images):
                values = image[:, :, y, x]
                if mean is not None:
                    values = difference_scale * (values - first[:, :, y, x]) if index else values - mean
                for channel in range(C):
                    to = (index * C + channel) * factor**2 + row % factor * factor + column % factor
                    gathered[:, to, row // factor, column // factor] = scale * values[:, channel]
    return gathered


@pytest.fixture(params=["kernel", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The implementation: the kernel, or its replacement on devices that have none."""
    if request.param == "torch":
        module = sys.modules[gather_images.__module__]
        monkeypatch.setattr(module, "_DEVICES_WITH_KERNEL", frozenset())
    return request.param


@pytest.mark.parametrize("with_mean", [False, True])
@pytest.mark.parametrize("case", [CASES[i] for i in (0, 1, 2, 3, 12)])
@pytest.mark.usefixtures("poisoned", "path")
def test_result_is_that_of_the_formula(case, with_mean):
    count, shape, factor, size = case
    images, mean = problem(count, shape)
    given = mean if with_mean else None
    result = gather(gather_images, images, factor, size, torch.float32, given)
    expected = gather(by_formula, images, factor, size, torch.float32, given)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("with_mean", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("poisoned")
def test_result_is_as_accurate_as_that_of_torch(case, dtype, with_mean):
    count, shape, factor, size = case
    images, mean = problem(count, shape)
    given = mean if with_mean else None
    result = gather(gather_images, images, factor, size, dtype, given)
    assert result.dtype == dtype
    assert result.is_contiguous(memory_format=torch.channels_last)
    in_float64 = [image.double() for image in images]
    exact = gather(
        reference.gather_images, in_float64, factor, size, torch.float64, mean.double() if with_mean else None
    )
    assert_as_accurate(result, gather(reference.gather_images, images, factor, size, dtype, given), exact)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.usefixtures("path")
def test_images_as_they_are_are_concatenated_and_unshuffled(dtype):
    images, _ = problem(3, (2, 3, 8, 70))
    result = gather_images(images, 2, (8, 70), dtype)
    assert torch.equal(result, F.pixel_unshuffle(torch.cat(images, dim=1), 2).to(dtype))
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [(torch.float64, torch.float32), (torch.float64, torch.float64), (torch.float32, torch.float16)],
)
def test_other_dtypes_are_computed_by_torch(given, wanted):
    images, mean = problem(2, (1, 3, 5, 7))
    images = [image.to(given) for image in images]
    result = gather(gather_images, images, 2, (6, 8), wanted, mean.to(given))
    expected = gather(
        by_formula, [image.double() for image in images], 2, (6, 8), torch.float64, mean.double()
    )
    assert result.dtype == wanted
    tolerance = 4 * torch.finfo(wanted).eps * float(expected.abs().max())
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_strides_make_no_difference_and_arguments_stay_unchanged(dtype):
    (first, second), mean = problem(2, (2, 3, 20, 35))
    arguments = (2, (24, 36), dtype)
    expected = gather(gather_images, [first, second], *arguments, mean)
    ways = [
        lambda image: image.transpose(2, 3).contiguous().transpose(2, 3),
        lambda image: image.to(memory_format=torch.channels_last),
        # Rows are read where they are.
        lambda image: F.pad(image, (3, 5, 1, 2))[..., 1:-2, 3:-5],
        lambda image: image.repeat_interleave(2, dim=1)[:, ::2],
    ]
    for view_of in ways:
        views = [view_of(first), second, mean.t().contiguous().t()]
        before = [view.clone() for view in views]
        assert torch.equal(gather(gather_images, views[:2], *arguments, views[2]), expected)
        assert all(map(torch.equal, views, before))
    shared = first[:1].expand(2, -1, -1, -1)
    assert torch.equal(
        gather(gather_images, [shared, second], *arguments),
        gather(gather_images, [shared.contiguous(), second], *arguments),
    )
    single = gather(gather_images, [first[1:], second[1:]], *arguments, mean[1:])
    assert torch.equal(single, expected[1:])


def test_bits_do_not_depend_on_the_number_of_threads():
    images, mean = problem(2, (1, 3, 70, 90))
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(gather(gather_images, images, 2, (80, 96), torch.bfloat16, mean))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[1], results[0])
    assert torch.equal(results[2], results[0])


def test_a_program_is_exported_for_every_size() -> None:
    class Gather(torch.nn.Module):
        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            size = (first.shape[2], first.shape[3])
            return gather_images([first, second], 1, size, torch.float32)

    auto = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(
        Gather(),
        (torch.rand(1, 3, 8, 10), torch.rand(1, 3, 8, 10)),
        dynamic_shapes=(auto, auto),
        strict=False,
    )
    images = torch.rand(2, 1, 3, 12, 6).unbind()
    assert torch.equal(program.module()(*images), torch.cat(images, 1))


@pytest.mark.parametrize("to_bfloat16", [False, True])
def test_opcheck(to_bfloat16):
    images, mean = problem(2, (2, 3, 9, 7))
    for given in (None, mean):
        torch.library.opcheck(
            torch.ops.asnet.gather_images.default,
            (images, given, 1.7, 2.5, 2, 5, 4, to_bfloat16),
            test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_empty_batch(dtype):
    images, mean = [torch.empty(0, 3, 8, 9)] * 2, torch.empty(0, 3)
    assert gather(gather_images, images, 2, (8, 10), dtype, mean).shape == (0, 24, 4, 5)


@pytest.mark.parametrize("with_mean", [False, True])
def test_gradcheck(with_mean):
    images, mean = problem(3, (2, 1, 3, 4))
    leaves = [tensor.double().requires_grad_() for tensor in [*images, *([mean] if with_mean else [])]]

    def function(*given: Tensor) -> Tensor:
        return gather(gather_images, list(given[:3]), 2, (6, 10), torch.float64, *given[3:])

    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("which", ["first", "other", "mean"])
def test_gradients_are_those_of_the_formula_in_dtypes_of_the_kernel(which):
    images, mean = problem(2, (1, 3, 5, 7))
    leaf = {"first": images[0], "other": images[1], "mean": mean}[which].requires_grad_()
    gathered = [gather(f, images, 2, (6, 16), torch.float32, mean) for f in (gather_images, by_formula)]
    weights = torch.randn(gathered[0].shape, generator=torch.Generator().manual_seed(0))
    ours, exact = (torch.autograd.grad(result, leaf, weights)[0] for result in gathered)
    torch.testing.assert_close(ours, exact)
    with torch.no_grad():
        assert not gather(gather_images, images, 2, (6, 16), torch.float32, mean).requires_grad


def test_a_derivative_of_the_kernel_is_refused_by_name():
    image = torch.rand(1, 3, 4, 5).requires_grad_()
    result = torch.ops.asnet.gather_images([image], None, 1.0, 1.0, 1, 4, 5, False)
    with pytest.raises(AsnetError, match=r"inference-only; asnet\.ops\.gather_images has one"):
        result.sum().backward()


@pytest.mark.parametrize(
    ("shapes", "factor", "size", "mean", "words"),
    [
        ([], 1, (8, 9), None, r"at least one .* got \[\]"),
        ([(3, 8, 9)], 1, (8, 9), None, r"the same shape \(N, C, H, W\), got \[\(3, 8, 9\)\]"),
        ([(1, 3, 8, 9), (1, 3, 8, 8)], 1, (8, 9), None, r"got \[\(1, 3, 8, 9\), \(1, 3, 8, 8\)\]"),
        ([(1, 3, 8, 9)], 0, (8, 9), None, "factor must be at least 1, got 0"),
        ([(1, 3, 8, 9)], 1, (7, 9), None, r"at least \(8, 9\), got \(7, 9\)"),
        ([(1, 3, 8, 9)], 2, (8, 11), None, r"a multiple of the factor 2 .* got \(8, 11\)"),
        ([(1, 3, 8, 9)], 1, (8, 9), (1, 2), r"mean must have the shape \(1, 3\), got \(1, 2\)"),
        ([(2, 3, 8, 9)], 1, (8, 9), (1, 3), r"mean must have the shape \(2, 3\), got \(1, 3\)"),
    ],
)
@pytest.mark.usefixtures("path")
def test_unusable_arguments_are_named(shapes, factor, size, mean, words):
    images = [torch.zeros(shape) for shape in shapes]
    with pytest.raises(InputError, match=words):
        gather(
            gather_images, images, factor, size, torch.float32, None if mean is None else torch.zeros(mean)
        )


@pytest.mark.parametrize(
    ("images", "mean", "sizes", "words"),
    [
        ([], torch.zeros(1, 3), (1, 8, 9), "there are no images"),
        ([torch.zeros(1, 3, 8, 9)], None, (0, 8, 9), "factor is 0 and the result has 8 x 9 pixels"),
        ([torch.zeros(1, 3, 8, 9)], None, (1, -1, 9), "factor is 1 and the result has -1 x 9 pixels"),
        ([torch.zeros(1, 3, 8, 9).double()], None, (1, 8, 9), "images must have dtype float32"),
        ([torch.zeros(3, 8, 9)], None, (1, 8, 9), "an image has 3 dimensions, expected 4"),
        (
            [torch.zeros(1, 3, 8, 9), torch.zeros(1, 2, 8, 9)],
            None,
            (1, 8, 9),
            "size 2 in dimension 1, the first 3",
        ),
        ([torch.zeros(1, 3, 0, 9)], None, (1, 8, 9), "images have 0 x 9 pixels, expected at least 1 x 1"),
        ([torch.zeros(2, 3, 8, 9)], torch.zeros(1, 3), (1, 8, 9), r"mean must have .* the shape \(2, 3\)"),
        ([torch.zeros(1, 3, 8, 9)], torch.zeros(1, 3).double(), (1, 8, 9), "mean must have dtype float32"),
    ],
)
def test_the_operator_prints_what_it_refuses(images, mean, sizes, words):
    with pytest.raises(RuntimeError, match=words):
        torch.ops.asnet.gather_images(images, mean, 1.0, 1.0, *sizes, False)
