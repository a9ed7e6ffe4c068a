from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from asnet.data.batches import BatchSource
from asnet.data.blur_kernels import BlurKernelConfig, support_size
from asnet.data.degradation import DegradationConfig, blur
from asnet.data.kernel_estimates import KernelEstimates
from asnet.data.photograph_pool import Photographs
from asnet.errors import InputError
from asnet.networks.pair import is_doubtful


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    folder = tmp_path_factory.mktemp("photographs")
    for index in range(2):
        pixels = numpy.random.default_rng(index).integers(0, 256, (70, 80, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return Photographs(folder)


def source(photographs: Photographs, *, noise: float = 0.02, **changes: Any) -> BatchSource:
    arguments = {"batch_size": 3, "crop": 32, "seed": 7, **changes}
    return BatchSource(
        photographs, BlurKernelConfig(canvas=15), DegradationConfig(noise=(noise, noise)), **arguments
    )


def test_shapes_and_ranges(photographs: Photographs) -> None:
    batch = source(photographs).batch(0)
    assert batch.blurred.shape == batch.sharp.shape == (3, 3, 32, 32)
    assert batch.kernel.shape == (3, 15, 15)
    assert batch.given.shape == batch.kernel.shape
    assert {tensor.dtype for tensor in batch[:4]} == {torch.float32}
    assert batch.estimated.tolist() == [False] * 3
    assert 0 <= batch.sharp.min() <= batch.sharp.max() <= 1


def test_a_batch_depends_on_seed_index_and_rank_alone(photographs: Photographs) -> None:
    straight = source(photographs)
    batches = [straight.batch(index) for index in range(4)]
    resumed = source(photographs)
    for first, second in zip(batches[3][:4], resumed.batch(3)[:4], strict=True):
        assert torch.equal(first, second)

    others = [
        batches[0],
        batches[1],
        source(photographs, seed=8).batch(0),
        source(photographs, rank=1, world_size=2).batch(0),
    ]
    for place, one in enumerate(others):
        for other in others[:place]:
            assert not torch.equal(one.sharp, other.sharp)
            assert not torch.equal(one.kernel, other.kernel)


def test_autocast_leaves_the_data_alone(photographs: Photographs) -> None:
    plain = source(photographs).batch(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = source(photographs).batch(0)
    for first, second in zip(plain[:4], under_autocast[:4], strict=True):
        assert torch.equal(first, second)


def test_sharp_is_aligned_with_blurred(photographs: Photographs) -> None:
    batch = source(photographs, noise=0.0).batch(0)
    inside = slice(7, 32 - 7)
    torch.testing.assert_close(
        blur(batch.sharp, batch.kernel), batch.blurred[..., inside, inside], rtol=0, atol=1e-5
    )


def test_the_halo_surrounds_the_crop_and_is_no_wider_than_the_largest_kernel(
    photographs: Photographs,
) -> None:
    wide = source(photographs, noise=0.0, crop=20, halo=11)
    sides = set()
    for index in range(12):
        batch = wide.batch(index)
        left, right, top, bottom = batch.halo
        extent = int(support_size(batch.kernel).max())
        assert left + right == top + bottom == 2 * min(11, extent)
        assert batch.blurred.shape == (3, 3, 20 + top + bottom, 20 + left + right)
        rows, columns = (slice(before + 7, before + 20 - 7) for before in (top, left))
        torch.testing.assert_close(
            blur(batch.sharp, batch.kernel), batch.blurred[..., rows, columns], rtol=0, atol=1e-5
        )
        sides |= {left == 0, right == 0, left == right}
    # Some crops lie at an edge.
    assert sides == {True, False}


def test_given_kernels_are_the_true_ones_but_for_the_wrong_share(photographs: Photographs) -> None:
    plain, half = source(photographs, batch_size=4), source(photographs, batch_size=4, wrong_share=0.5)
    assert torch.equal(plain.batch(0).given, plain.batch(0).kernel)
    batch = half.batch(0)
    assert torch.equal(batch.kernel, plain.batch(0).kernel)
    assert torch.equal(batch.blurred, plain.batch(0).blurred)
    same = [torch.equal(given, true) for given, true in zip(batch.given, batch.kernel, strict=True)]
    assert same == [True, True, False, False]
    # Small estimates are trusted, as the pair trusts its own.
    doubtful = is_doubtful(batch.given).tolist()
    assert batch.estimated.tolist() == [False, False, *doubtful[2:]]
    assert set(doubtful[2:]) == {True, False}


def test_estimates_replace_the_kernels_of_the_wrong_share(photographs: Photographs, tmp_path: Path) -> None:
    truth = torch.zeros(2, 9, 9)
    truth[0, 4, 3:6] = truth[1, 2:7, 4] = 1
    truth = truth / truth.sum((1, 2), keepdim=True)
    estimate = truth.flip(0).contiguous()
    save_file({"kernel": truth, "estimate": estimate}, tmp_path / "estimates.safetensors")
    estimates = KernelEstimates(tmp_path / "estimates.safetensors", canvas=15)
    batch = source(photographs, batch_size=4, wrong_share=0.5, estimates=estimates, noise=0.0).batch(0)
    plain = source(photographs, batch_size=4, noise=0.0).batch(0)
    assert torch.equal(batch.given[:2], plain.kernel[:2])
    for given, kernel in zip(batch.given[2:], batch.kernel[2:], strict=True):
        # A line of 3 pixels and one of 5, each estimated as the other.
        assert sorted([int((given > 0).sum()), int((kernel > 0).sum())]) == [3, 5]
    inside = slice(7, 32 - 7)
    torch.testing.assert_close(
        blur(batch.sharp, batch.kernel), batch.blurred[..., inside, inside], rtol=0, atol=1e-5
    )


def test_images_without_blur_come_with_a_small_kernel(photographs: Photographs) -> None:
    batch = source(photographs, batch_size=4, unblurred_share=1.0, noise=0.0).batch(0)
    assert (support_size(batch.kernel) == 1).all()
    torch.testing.assert_close(batch.blurred, batch.sharp)
    assert (support_size(batch.given) <= 9).all()
    assert (support_size(batch.given) > 1).any()
    # Marked as in use: small estimates are trusted.
    assert torch.equal(batch.estimated, is_doubtful(batch.given))
    half = source(photographs, batch_size=40, unblurred_share=0.5).batch(0)
    assert 8 < (support_size(half.kernel) == 1).sum() < 32


def test_a_share_of_the_images_is_grey(photographs: Photographs) -> None:
    plain = source(photographs, batch_size=40, noise=0.0).batch(0)
    batch = source(photographs, batch_size=40, grey_share=0.5, noise=0.0).batch(0)
    grey = (batch.sharp.amax(1) - batch.sharp.amin(1)).amax((1, 2)) < 1e-6
    assert 8 < grey.sum() < 32
    assert torch.equal(batch.sharp[~grey], plain.sharp[~grey])
    assert (batch.blurred[grey].amax(1) - batch.blurred[grey].amin(1)).max() < 1e-6


def test_noise_is_added(photographs: Photographs) -> None:
    clean, noisy = source(photographs, noise=0.0).batch(0), source(photographs, noise=0.1).batch(0)
    assert torch.equal(clean.sharp, noisy.sharp)
    assert abs((noisy.blurred - clean.blurred).std() - 0.1) < 0.005


def test_lights_are_in_both_images_and_clipped(photographs: Photographs) -> None:
    plain = source(photographs, noise=0.0)
    config = DegradationConfig(noise=(0.0, 0.0), lights=(3, 3), light_radius=(2.0, 2.0))
    lit = BatchSource(photographs, BlurKernelConfig(canvas=15), config, batch_size=3, crop=32, seed=7)
    before, after = plain.batch(0), lit.batch(0)
    assert torch.equal(before.kernel, after.kernel)
    assert after.sharp.max() == 1
    assert after.blurred.max() <= 1
    assert (after.sharp >= before.sharp).all()
    assert (after.sharp > before.sharp).any()
    assert after.blurred.mean() > before.blurred.mean()


def test_unusable_arguments_are_refused(photographs: Photographs) -> None:
    with pytest.raises(InputError, match=r"0\.png has 80x70 pixels.*71x71"):
        source(photographs, crop=57)
    assert source(photographs, crop=56).batch(0).sharp.shape[-1] == 56
    with pytest.raises(InputError, match="rank"):
        source(photographs, rank=2, world_size=2)
    with pytest.raises(InputError, match="batch size"):
        source(photographs, batch_size=0)
