"""Spectra of periodic images and back against the formula, and against torch's transforms in float64."""

import math
import sys

import pytest
import torch
from accuracy import assert_as_accurate
from torch import Tensor

from asnet.errors import InputError
from asnet.ops import periodic_images, periodic_spectra, reference
from asnet.ops.periodic_spectra import is_transform_length

BLOCK = 16

# (N, C, H, W): one pixel, every radix along both axes, around registers and pairs of them, around blocks of
# 16 frequencies (H = 30 has 16, H = 32 has 17) and twice as many.
TINY = [
    (1, 1, 1, 1), (2, 1, 2, 1), (1, 1, 1, 2), (1, 2, 3, 4), (2, 3, 4, 3), (1, 1, 5, 6), (1, 2, 6, 5),
    (1, 3, 8, 9), (1, 1, 9, 8), (2, 2, 10, 15), (1, 3, 30, 2), (2, 1, 32, 3), (1, 1, 45, 4),
]  # fmt: skip
CASES = [
    *TINY, (1, 1, 27, 16), (1, 3, 30, 18), (2, 1, 32, 30), (1, 1, 45, 32), (1, 2, 60, 36), (1, 1, 64, 27),
    (1, 1, 50, 64), (1, 1, 81, 25), (1, 1, 20, 162), (1, 3, 96, 80),
]  # fmt: skip


def random(*shape: int) -> Tensor:
    """Numbers of both signs, the same for the same shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def number_of_blocks(height: int) -> int:
    return math.ceil((height // 2 + 1) / BLOCK)


def arbitrary_spectra(N: int, C: int, H: int, W: int) -> tuple[Tensor, Tensor]:
    """Spectra that no real image has, and factors that differ between kx and -kx; NaN beyond ky = H / 2."""
    blocks = number_of_blocks(H)
    beyond = torch.arange(blocks * BLOCK).view(blocks, 1, BLOCK) > H // 2
    spectra, factor = random(N, C, blocks, 2, W, BLOCK), random(N, blocks, W, BLOCK)
    return spectra.masked_fill(beyond[:, None], math.nan), factor.masked_fill(beyond, math.nan)


def waves(length: int, frequencies: int) -> Tensor:
    """exp(2 pi i k y / length) at [k, y]."""
    turns = (torch.arange(frequencies)[:, None] * torch.arange(length) % length).double() / length
    return torch.polar(torch.ones_like(turns), 2 * torch.pi * turns)


def spectra_by_formula(images: Tensor) -> Tensor:
    N, C, H, W = images.shape
    across, down = waves(W, W).conj(), waves(H, H // 2 + 1).conj()
    sums = torch.einsum("ncyx,ky,lx->nckl", images.to(torch.complex128), down, across)
    spectra = images.new_zeros(N, C, number_of_blocks(H), 2, W, BLOCK)
    for ky in range(H // 2 + 1):
        spectra[:, :, ky // BLOCK, 0, :, ky % BLOCK] = sums[:, :, ky].real
        spectra[:, :, ky // BLOCK, 1, :, ky % BLOCK] = sums[:, :, ky].imag
    return spectra


def images_by_formula(spectra: Tensor, H: int, factor: Tensor | None) -> Tensor:
    """Real part of the sum over all frequencies; those of -ky are conjugates of those of ky."""
    N, C, _, _, W, _ = spectra.shape
    images = spectra.new_zeros(N, C, H, W)
    across, down = waves(W, W), waves(H, H // 2 + 1)
    for ky in range(H // 2 + 1):
        re, im = spectra[:, :, ky // BLOCK, :, :, ky % BLOCK].unbind(2)
        if factor is not None:
            scale = factor[:, None, ky // BLOCK, :, ky % BLOCK]
            re, im = scale * re, scale * im
        count = 1 if 2 * ky in (0, H) else 2
        images += count * torch.einsum("ncl,lx,y->ncyx", torch.complex(re, im), across, down[ky]).real
    return images / (H * W)


@pytest.fixture(params=["kernel", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The implementation: the kernel, or its replacement on devices that have none."""
    if request.param == "torch":
        module = sys.modules[periodic_spectra.__module__]
        monkeypatch.setattr(module, "_DEVICES_WITH_KERNEL", frozenset())
    return request.param


@pytest.mark.parametrize("shape", TINY)
@pytest.mark.usefixtures("poisoned", "path")
def test_both_directions_are_those_of_the_formula(shape):
    images = random(*shape)
    torch.testing.assert_close(periodic_spectra(images), spectra_by_formula(images), rtol=0, atol=1e-12)
    spectra, factor = arbitrary_spectra(*shape)
    for given in (None, factor):
        result = periodic_images(spectra, shape[2], given)
        torch.testing.assert_close(result, images_by_formula(spectra, shape[2], given), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", CASES)
@pytest.mark.usefixtures("poisoned")
def test_spectra_are_as_accurate_as_those_of_torch(shape, dtype):
    images = random(*shape).to(dtype)
    result = periodic_spectra(images)
    assert result.dtype == dtype
    exact = reference.periodic_spectra(images.double())
    assert_as_accurate(result, reference.periodic_spectra(images), exact)


@pytest.mark.parametrize("with_factor", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", CASES)
@pytest.mark.usefixtures("poisoned")
def test_images_are_as_accurate_as_those_of_torch(shape, dtype, with_factor):
    spectra, factor = (values.to(dtype) for values in arbitrary_spectra(*shape))
    given = factor if with_factor else None
    result = periodic_images(spectra, shape[2], given)
    assert result.dtype == dtype
    exact = reference.periodic_images(spectra.double(), shape[2], None if given is None else given.double())
    assert_as_accurate(result, reference.periodic_images(spectra, shape[2], given), exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", CASES)
def test_back_and_forth_gives_the_images_again(shape, dtype):
    images = random(*shape).to(dtype)
    again = periodic_images(periodic_spectra(images), shape[2])
    torch.testing.assert_close(again, images, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-13)


def test_strides_make_no_difference_and_arguments_stay_unchanged():
    images = random(2, 3, 36, 40)
    views = [
        images,
        images.transpose(2, 3).contiguous().transpose(2, 3),
        images.to(memory_format=torch.channels_last),
        torch.nn.functional.pad(images, (3, 5, 1, 2))[..., 1:-2, 3:-5],
    ]
    expected = periodic_spectra(images)
    for view in views:
        before = view.clone()
        assert torch.equal(periodic_spectra(view), expected)
        assert torch.equal(view, before)
    # A channel of the spectra, as large images are computed.
    assert torch.equal(periodic_spectra(images[:, 1:2]), expected[:, 1:2])

    factor = random(2, *expected.shape[2:3], *expected.shape[4:])
    back = periodic_images(expected, 36, factor)
    strided = [t.transpose(-1, -2).contiguous().transpose(-1, -2) for t in (expected, factor)]
    unchanged = [t.clone() for t in strided]
    assert torch.equal(periodic_images(strided[0], 36, strided[1]), back)
    assert all(map(torch.equal, strided, unchanged))
    assert torch.equal(periodic_images(expected[1:, 1:2], 36, factor[1:]), back[1:, 1:2])
    shared = factor[:1].expand(2, -1, -1, -1)
    assert torch.equal(
        periodic_images(expected, 36, shared), periodic_images(expected, 36, shared.contiguous())
    )


def test_bits_do_not_depend_on_the_number_of_threads():
    images, threads = random(1, 3, 120, 90).float(), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            spectra = periodic_spectra(images)
            results.append((spectra, periodic_images(spectra, 120, spectra[:, 0, :, 0])))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype):
    images = random(2, 3, 32, 10).to(dtype)
    spectra = periodic_spectra(images)
    factor = spectra[:, 0, :, 0].clone()
    torch.library.opcheck(torch.ops.asnet.periodic_spectra.default, (images.requires_grad_(),))
    for given in (None, factor.requires_grad_()):
        arguments = (spectra.requires_grad_(), given, 32)
        torch.library.opcheck(torch.ops.asnet.periodic_images.default, arguments)


@pytest.mark.parametrize("shape", [(0, 3, 32, 9), (2, 0, 32, 9)])
def test_without_images_there_are_no_spectra_and_no_gradients(shape):
    images = torch.empty(shape, requires_grad=True)
    spectra = periodic_spectra(images)
    assert spectra.shape == (*shape[:2], 2, 2, 9, 16)
    factor = torch.ones(shape[0], 2, 9, 16, requires_grad=True)
    again = periodic_images(spectra, 32, factor)
    assert again.shape == shape
    again.sum().backward()
    assert images.grad.shape == shape
    assert factor.grad.eq(0).all()


@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (1, 1, 4, 3), (2, 1, 32, 2), (1, 2, 30, 1), (1, 1, 1, 5)])
@pytest.mark.usefixtures("poisoned", "path")
def test_gradcheck(shape):
    images = random(*shape).requires_grad_()
    spectra, factor = (values.nan_to_num().requires_grad_() for values in arbitrary_spectra(*shape))
    height = shape[2]
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(periodic_spectra, images, fast_mode=True)
        for given in ((spectra, height), (spectra, height, factor), (spectra.detach(), height, factor)):
            assert check(periodic_images, given, fast_mode=True)
        fixed = (spectra, height, factor.detach())
        assert check(periodic_images, fixed, fast_mode=True)


@pytest.mark.parametrize("shape", [(2, 3, 96, 80), (1, 1, 45, 32), (1, 2, 64, 27)])
@pytest.mark.usefixtures("poisoned")
def test_gradients_in_float32_are_as_accurate_as_those_of_torch(shape):
    images, out = random(*shape), random(*shape)
    spectra, factor = (values.nan_to_num() for values in arbitrary_spectra(*shape))

    def gradients(operators, dtype: torch.dtype) -> list[Tensor]:
        to_spectra, to_images = operators
        leaves = [values.to(dtype).requires_grad_() for values in (images, spectra, factor)]
        weighted = spectra.to(dtype) * to_spectra(leaves[0])
        restored = out.to(dtype) * to_images(leaves[1], shape[2], leaves[2])
        return list(torch.autograd.grad(weighted.sum() + restored.sum(), leaves))

    by_torch = (reference.periodic_spectra, reference.periodic_images)
    found = gradients((periodic_spectra, periodic_images), torch.float32)
    theirs, exact = gradients(by_torch, torch.float32), gradients(by_torch, torch.float64)
    for values in zip(found, theirs, exact, strict=True):
        assert_as_accurate(*values)


def test_results_are_the_same_where_gradients_are_recorded():
    images = random(1, 1, 8, 9).requires_grad_()
    with torch.no_grad():
        spectra = periodic_spectra(images)
        back = periodic_images(spectra, 8)
    assert not spectra.requires_grad
    assert torch.equal(spectra, periodic_spectra(images))
    assert torch.equal(back, periodic_images(periodic_spectra(images), 8))


def test_lengths_of_transforms_are_products_of_2_3_and_5():
    products = {2**a * 3**b * 5**c for a in range(7) for b in range(5) for c in range(3)}
    lengths = [length for length in range(-9, 100) if is_transform_length(length)]
    assert lengths == sorted(length for length in products if length < 100)
    assert is_transform_length(2**40 * 3**9 * 5**3)
    assert not is_transform_length(2**40 * 7)


@pytest.mark.parametrize("shape", [(3, 8, 9), (1, 1, 7, 8), (1, 1, 8, 22), (1, 1, 0, 8), (1, 1, 8, 0)])
def test_images_that_have_no_transform_are_named(shape):
    with pytest.raises(InputError, match=r"H and W, got \(" + ", ".join(map(str, shape))):
        periodic_spectra(torch.zeros(shape))
    with pytest.raises(RuntimeError, match=r"images ha(s 3 dimensions|ve \d+ x \d+ pixels), expected"):
        torch.ops.asnet.periodic_spectra(torch.zeros(shape))


@pytest.mark.parametrize(
    ("spectra", "height", "factor", "words"),
    [
        ((1, 1, 1, 2, 16), 8, None, r"\(N, C, 1, 2, W, 16\), got \(1, 1, 1, 2, 16\)"),
        ((1, 1, 1, 2, 9, 16), 32, None, r"32 pixels high must have .* \(N, C, 2, 2, W, 16\), got \(1, 1, 1,"),
        ((1, 1, 1, 1, 9, 16), 8, None, r"got \(1, 1, 1, 1, 9, 16\)"),
        ((1, 1, 1, 2, 9, 8), 8, None, r"got \(1, 1, 1, 2, 9, 8\)"),
        ((1, 1, 1, 2, 9, 16), 7, None, "products of 2, 3 and 5, got 7 and 9"),
        ((1, 1, 1, 2, 7, 16), 8, None, "products of 2, 3 and 5, got 8 and 7"),
        ((1, 1, 1, 2, 9, 16), 0, None, "products of 2, 3 and 5, got 0 and 9"),
        ((1, 1, 0, 2, 9, 16), -8, None, "products of 2, 3 and 5, got -8 and 9"),
        ((2, 1, 1, 2, 9, 16), 8, (1, 1, 9, 16), r"factor must .* \(2, 1, 9, 16\), got \(1, 1, 9, 16\)"),
        ((2, 1, 1, 2, 9, 16), 8, (2, 1, 2, 9, 16), r"got \(2, 1, 2, 9, 16\)"),
    ],
)
def test_spectra_that_do_not_fit_are_named(spectra, height, factor, words):
    with pytest.raises(InputError, match=words):
        periodic_images(torch.zeros(spectra), height, None if factor is None else torch.zeros(factor))


@pytest.mark.parametrize(
    ("spectra", "height", "factor", "words"),
    [
        (torch.zeros(1, 1, 1, 2, 9, 16).half(), 8, None, "dtype Half, expected float32 or float64"),
        (torch.zeros(1, 1, 1, 2, 16), 8, None, "spectra has 5 dimensions, expected 6"),
        (torch.zeros(1, 1, 1, 2, 9, 16), 32, None, r"\(N, C, 1, 2, W, 16\), expected \(N, C, 2, 2, W, 16\)"),
        (torch.zeros(1, 1, 1, 1, 9, 16), 8, None, r"has the shape \(N, C, 1, 1, W, 16\)"),
        (torch.zeros(1, 1, 1, 2, 9, 8), 8, None, r"has the shape \(N, C, 1, 2, W, 8\)"),
        (torch.zeros(1, 1, 1, 2, 9, 16), 7, None, "7 x 9 pixels, expected products of 2, 3 and 5"),
        (torch.zeros(1, 1, 1, 2, 7, 16), 8, None, "8 x 7 pixels, expected products of 2, 3 and 5"),
        (torch.zeros(1, 1, 0, 2, 9, 16), -8, None, "-8 x 9 pixels"),
        (torch.zeros(1, 1, 1, 2, 9, 16), 8, torch.zeros(1, 1, 9, 16).double(), "factor must have the dtype"),
        (torch.zeros(2, 1, 1, 2, 9, 16), 8, torch.zeros(1, 1, 9, 16), r"the shape \(2, 1, 9, 16\)"),
        (torch.zeros(1, 1, 1, 2, 9, 16), 8, torch.zeros(1, 9, 16), r"the shape \(1, 1, 9, 16\)"),
    ],
)
def test_the_operator_prints_what_it_refuses(spectra, height, factor, words):
    with pytest.raises(RuntimeError, match=words):
        torch.ops.asnet.periodic_images(spectra, factor, height)


def test_the_operator_prints_the_dtype_of_images_that_it_refuses():
    with pytest.raises(RuntimeError, match="images has dtype Half, expected float32 or float64"):
        periodic_spectra(torch.zeros(1, 1, 8, 9).half())
