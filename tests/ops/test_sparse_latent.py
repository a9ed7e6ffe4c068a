"""Latent images with few gradients against the formula over whole spectra in float64."""

import sys

import pytest
import torch
from accuracy import assert_as_accurate
from torch import Tensor

from asnet.errors import AsnetError, InputError
from asnet.ops import reference, sparse_latent

# (N, H, W), side of the kernel: sides around registers and pairs of them, odd, of every radix, of one pixel.
CASES = [
    ((1, 1, 1), 1), ((2, 1, 2), 1), ((1, 2, 1), 1), ((1, 3, 5), 3), ((3, 5, 3), 1), ((1, 8, 16), 5),
    ((2, 9, 15), 9), ((1, 15, 32), 3), ((1, 16, 36), 7), ((1, 32, 27), 5), ((1, 45, 64), 3), ((2, 30, 75), 9),
    ((1, 81, 10), 7), ((1, 4, 162), 3),
]  # fmt: skip

OPTIONS = {"strength": 4e-3, "beta": 8e-3, "growth": 2.0, "steps": 4}


def problem(shape: tuple[int, int, int], size: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Padded images, kernels, observed images and where they are clipped."""
    random = torch.Generator().manual_seed(sum(shape))
    N, H, W = shape
    padded = torch.rand(N, 1, H, W, generator=random, dtype=torch.float64)
    kernel = torch.rand(N, size, size, generator=random, dtype=torch.float64) ** 4
    kernel /= kernel.sum((1, 2), keepdim=True)
    clipped = padded > 0.8
    observed = padded + 0.3 * clipped
    return [*(values.to(dtype) for values in (padded, kernel, observed)), clipped]


def solve(function, padded, kernel, observed=None, clipped=None, **options):
    options = OPTIONS | options
    return function(padded, kernel, options.pop("strength"), observed=observed, clipped=clipped, **options)


@pytest.mark.parametrize("ground", [None, 0.0, 0.7, 1.0, 1.5])
@pytest.mark.parametrize("clips", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "size"), CASES)
@pytest.mark.usefixtures("poisoned")
def test_result_is_that_of_the_formula(device, shape, size, dtype, clips, ground):
    padded, kernel, observed, clipped = (tensor.to(device) for tensor in problem(shape, size, dtype))
    arguments = (padded, kernel, observed if clips else None, clipped if clips else None)
    in_float64 = [a.double() if a is not None and a.is_floating_point() else a for a in arguments]
    results = solve(sparse_latent, *arguments, brightest=1.4, ground=ground)
    eager = solve(reference.sparse_latent, *arguments, brightest=1.4, ground=ground)
    exact = solve(reference.sparse_latent, *in_float64, brightest=1.4, ground=ground)
    for result, of_torch, truth in zip(results, eager, exact, strict=True):
        assert result.dtype == dtype
        # The transforms add up all pixels.
        assert_as_accurate(result, of_torch, truth, partial_sums=2.0)


@pytest.mark.parametrize("ground", [None, 0.7])
@pytest.mark.parametrize("clips", [False, True])
def test_devices_without_a_kernel_use_the_formula(monkeypatch, clips, ground):
    padded, kernel, _, clipped = problem((2, 9, 15), 9)
    arguments = (padded, kernel, None, clipped if clips else None)
    expected = solve(sparse_latent, *arguments, ground=ground)
    monkeypatch.setattr(sys.modules[sparse_latent.__module__], "_DEVICES_WITH_KERNEL", frozenset())
    torch.testing.assert_close(solve(sparse_latent, *arguments, ground=ground), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_at_the_threshold_is_kept(dtype):
    """Steps of 0.25 up and down: kept, they leave the photograph as it is; not kept, they are smoothed."""
    padded = torch.zeros(1, 1, 6, 40, dtype=dtype)
    padded[..., 10:30] = 0.25
    kernel = torch.ones(1, 1, 1, dtype=dtype)
    at, above = (
        sparse_latent(padded, kernel, strength, beta=1.0, growth=2.0, steps=1)[0]
        for strength in (0.25**2, 0.25**2 + 1e-6)
    )
    assert (at - padded).abs().max() < 1e-6
    assert (above - padded).abs().max() > 0.05


def test_faint_marks_on_a_ground_vanish_and_others_stay():
    padded = torch.full((1, 1, 12, 40), 0.9, dtype=torch.float64)
    padded[..., 4:8, 5:9], padded[..., 4:8, 25:29] = 0.85, 0.2
    kernel = torch.ones(1, 1, 1, dtype=torch.float64)
    # One step that keeps every gradient, so that only the ground takes something away.
    options = {"strength": 1e-8, "beta": 1e3, "growth": 1.0, "steps": 1}
    latent, _ = solve(sparse_latent, padded, kernel, **options, ground=0.9)
    assert (latent - padded).abs().max() < 1e-6
    options = {"strength": 10.0, "beta": 1e3, "growth": 1.0, "steps": 30}
    latent, _ = solve(sparse_latent, padded, kernel, **options, ground=0.9)
    assert (latent[..., 4:8, 5:9] - 0.9).abs().max() < 5e-3
    assert (latent[..., 4:8, 25:29] - 0.2).abs().max() < 5e-3
    on_black, _ = solve(sparse_latent, padded, kernel, **options, ground=0.0)
    assert (on_black[..., 4:8, 25:29] - 0.2).abs().max() < 5e-3


def test_clipped_pixels_are_raised_and_others_never_change():
    padded, kernel, observed, clipped = problem((2, 24, 30), 5)
    _, raised = solve(sparse_latent, padded, kernel, observed, clipped, brightest=1.1)
    assert torch.equal(raised[~clipped], padded[~clipped])
    assert (raised[clipped] >= padded[clipped]).all()
    assert raised.max() <= 1.1
    assert (raised > padded).any()


@pytest.mark.parametrize("clips", [False, True])
def test_strides_make_no_difference_and_arguments_stay_unchanged(clips):
    padded, kernel, observed, mask = problem((3, 20, 24), 5)
    clipped = mask if clips else None
    expected = solve(sparse_latent, padded, kernel, observed, clipped)
    given = [padded, kernel, observed, clipped]
    before = [None if tensor is None else tensor.clone() for tensor in given]
    transposed = [None if t is None else t.transpose(-1, -2).contiguous().transpose(-1, -2) for t in given]
    for result, wanted in zip(solve(sparse_latent, *transposed), expected, strict=True):
        assert torch.equal(result, wanted)
    for tensor, was in zip(given, before, strict=True):
        assert tensor is was or torch.equal(tensor, was)
    single = [None if tensor is None else tensor[1:2] for tensor in given]
    for result, wanted in zip(solve(sparse_latent, *single), expected, strict=True):
        assert torch.equal(result, wanted[1:2])


def test_bits_do_not_depend_on_the_number_of_threads():
    padded, kernel, observed, clipped = problem((1, 90, 120), 9, torch.float32)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(solve(sparse_latent, padded, kernel, observed, clipped))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


@pytest.mark.parametrize("ground", [None, 0.7])
@pytest.mark.parametrize("clips", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype, clips, ground):
    padded, kernel, observed, clipped = problem((2, 9, 16), 3, dtype)
    torch.library.opcheck(
        torch.ops.asnet.sparse_latent.default,
        (padded, observed, clipped if clips else None, kernel, 4e-3, 8e-3, 2.0, 3, 1.5, ground),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


@pytest.mark.parametrize("ground", [None, 0.7])
def test_a_mask_without_clipped_pixels_changes_nothing(ground):
    padded, kernel, _, clipped = problem((2, 9, 15), 9)
    expected = solve(sparse_latent, padded, kernel, ground=ground)
    results = solve(sparse_latent, padded, kernel, None, torch.zeros_like(clipped), ground=ground)
    torch.testing.assert_close(results, expected)


@pytest.mark.parametrize("ground", [None, 0.7])
def test_empty_batch(ground):
    latent, observed = solve(sparse_latent, torch.empty(0, 1, 8, 9), torch.empty(0, 3, 3), ground=ground)
    assert latent.shape == observed.shape == (0, 1, 8, 9)


def test_a_derivative_is_refused_by_name():
    padded, kernel, _, _ = problem((1, 8, 9), 3)
    latent, _ = solve(sparse_latent, padded.requires_grad_(), kernel)
    with pytest.raises(AsnetError, match="asnet::sparse_latent is inference-only"):
        latent.sum().backward()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": 0.0}, "strength must be more than 0, got 0.0"),
        ({"beta": -1.0}, "beta must be more than 0, got -1.0"),
        ({"growth": float("nan")}, "growth must be more than 0, got nan"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"ground": float("inf")}, "ground must be finite, got inf"),
        ({"ground": float("nan")}, "ground must be finite, got nan"),
    ],
)
def test_numbers_out_of_range_are_named(options, words):
    with pytest.raises(InputError, match=words):
        solve(sparse_latent, torch.zeros(1, 1, 8, 9), torch.ones(1, 1, 1), **options)


@pytest.mark.parametrize("shape", [(1, 8, 9), (1, 1, 7, 8), (1, 1, 8, 22), (1, 1, 0, 8)])
def test_sides_that_no_transform_has_are_named(shape):
    with pytest.raises(InputError, match="products of 2, 3 and 5"):
        solve(sparse_latent, torch.zeros(shape), torch.ones(1, 1, 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"padded": torch.zeros(1, 1, 8, 9).half()}, "expected float32 or float64"),
        ({"padded": torch.zeros(1, 2, 8, 9)}, r"the shape \(N, 1, H, W\)"),
        ({"observed": torch.zeros(1, 1, 8, 9).double()}, "observed must have the dtype of padded"),
        ({"observed": torch.zeros(1, 1, 8, 10)}, "observed has size 10 in dimension 3, padded has 9"),
        ({"clipped": torch.zeros(1, 1, 8, 9)}, "clipped must have dtype bool"),
        ({"clipped": torch.zeros(1, 8, 9, dtype=torch.bool)}, "clipped has 3 dimensions"),
        ({"kernel": torch.ones(1, 1, 1).double()}, "kernel must have the dtype"),
        ({"kernel": torch.ones(2, 1, 1)}, r"the shape \(1, s, s\)"),
        ({"kernel": torch.ones(1, 3, 5)}, r"the shape \(1, s, s\)"),
        ({"kernel": torch.ones(1, 4, 4)}, "the kernel has 4 x 4 pixels, expected an odd number"),
        ({"kernel": torch.ones(1, 9, 9)}, "at most 8 x 9"),
    ],
)
def test_the_operator_prints_what_it_refuses(change, words):
    given = {"padded": torch.zeros(1, 1, 8, 9), "kernel": torch.ones(1, 1, 1)} | change
    with pytest.raises(RuntimeError, match=words):
        solve(sparse_latent, given["padded"], given["kernel"], given.get("observed"), given.get("clipped"))
