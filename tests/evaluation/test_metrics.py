import math

import pytest
import torch

from asnet.data.blur_kernels import BlurKernelConfig, sample_blur_kernels
from asnet.errors import InputError
from asnet.evaluation.metrics import kernel_similarity, psnr, ring_error, self_symmetry, ssim


def images(count: int = 3, height: int = 33, width: int = 47) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(count, 3, height, width, generator=generator, dtype=torch.float64)
    amount = torch.tensor([0.0, 0.05, 0.3], dtype=torch.float64)[:count, None, None, None]
    return truth + amount * torch.randn(truth.shape, generator=generator, dtype=torch.float64), truth


def test_psnr_of_a_known_error() -> None:
    truth = torch.zeros(2, 3, 4, 5)
    estimate = torch.stack((torch.full((3, 4, 5), 0.1), torch.full((3, 4, 5), -0.01)))
    torch.testing.assert_close(psnr(estimate, truth), torch.tensor([20.0, 40.0]))
    torch.testing.assert_close(psnr(255 * estimate, truth, data_range=255), torch.tensor([20.0, 40.0]))
    assert psnr(truth, truth).tolist() == [math.inf, math.inf]


def test_psnr_and_ssim_agree_with_scikit_image() -> None:
    reference = pytest.importorskip("skimage.metrics")
    for scale in (1.0, 255.0):
        estimate, truth = (scale * image for image in images())
        similarity = ssim(estimate, truth, data_range=scale)
        ratio = psnr(estimate, truth, data_range=scale)
        for index in range(3):
            pair = truth[index].numpy(), estimate[index].numpy()
            expected = reference.structural_similarity(
                *pair,
                channel_axis=0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=scale,
            )
            assert float(similarity[index]) == pytest.approx(expected, rel=1e-9)
            if index > 0:
                expected = reference.peak_signal_noise_ratio(*pair, data_range=scale)
                assert float(ratio[index]) == pytest.approx(expected, rel=1e-9)


def test_ssim_in_single_precision_and_of_equal_images() -> None:
    estimate, truth = images()
    single = ssim(estimate.float(), truth.float())
    torch.testing.assert_close(single.double(), ssim(estimate, truth), rtol=1e-4, atol=1e-4)
    assert float(single[0]) == pytest.approx(1.0, abs=1e-5)
    assert single[0] > single[1] > single[2]


def test_unusable_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(1, 3, 4, 4\)"):
        psnr(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))
    with pytest.raises(InputError, match="11x11"):
        ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))


def test_kernel_similarity_is_blind_to_shift_and_scale() -> None:
    kernel = sample_blur_kernels(4, BlurKernelConfig(canvas=21), generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(kernel, (5, 5, 5, 5))
    shifted = 3 * padded.roll((4, -3), dims=(1, 2))
    for other in (kernel, padded, shifted):
        torch.testing.assert_close(kernel_similarity(kernel, other), torch.ones(4), rtol=0, atol=1e-5)
        torch.testing.assert_close(kernel_similarity(other, kernel), torch.ones(4), rtol=0, atol=1e-5)


def test_kernel_similarity_of_hand_made_kernels() -> None:
    corner = torch.zeros(1, 5, 5)
    corner[0, 1, 1] = corner[0, 1, 2] = corner[0, 2, 1] = 1
    dot = torch.zeros(1, 5, 5)
    dot[0, 4, 4] = 1
    line = torch.zeros(1, 5, 5)
    line[0, 2] = 1
    torch.testing.assert_close(kernel_similarity(corner, dot), torch.tensor([1 / math.sqrt(3)]))
    torch.testing.assert_close(kernel_similarity(corner, line), torch.tensor([2 / math.sqrt(15)]))
    assert kernel_similarity(corner, torch.zeros(1, 5, 5)).tolist() == [0.0]
    # An L matches its flip in two of three pixels; a line and a dot match theirs entirely.
    torch.testing.assert_close(self_symmetry(corner), torch.tensor([2 / 3]))
    torch.testing.assert_close(self_symmetry(torch.cat((line, dot))), torch.ones(2))


def test_shifts_do_not_wrap_around() -> None:
    ends = torch.zeros(1, 5, 5)
    ends[0, 2, 0] = ends[0, 2, 4] = 1
    neighbours = torch.zeros(1, 5, 5)
    neighbours[0, 2, 1] = neighbours[0, 2, 2] = 1
    torch.testing.assert_close(kernel_similarity(ends, neighbours), torch.tensor([0.5]))


def test_unusable_kernels_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(2, 3, 3\)"):
        kernel_similarity(torch.zeros(2, 3, 3), torch.zeros(1, 3, 3))
    with pytest.raises(InputError):
        self_symmetry(torch.zeros(1, 1, 3, 3))


def test_ring_error_counts_flat_places_near_edges_alone() -> None:
    truth = torch.full((1, 3, 60, 100), 0.2)
    truth[..., 50:] = 0.8
    near, far, on_edge = torch.zeros_like(truth), torch.zeros_like(truth), torch.zeros_like(truth)
    near[..., 30:40] = 0.1
    far[..., :10] = 0.1
    on_edge[..., 48:52] = 0.1
    ripple = ring_error(truth + near, truth, distance=24)
    assert 0.03 < float(ripple) < 0.1
    assert ring_error(truth + far, truth, distance=24) == 0
    assert ring_error(truth + on_edge, truth, distance=24) == 0
    # Relative to the places that count: 24 and 25 columns, less those at the edge, in which nothing is flat.
    columns = torch.arange(100)
    place = ((columns - 49).abs() <= 24) & ((columns - 49).abs() > 2)
    expected = (0.01 * 10 / place.sum()) ** 0.5
    torch.testing.assert_close(ripple[0], expected)


def test_ring_error_without_flat_places_is_none() -> None:
    noise = torch.rand(2, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    assert ring_error(noise, noise).isnan().all()
    flat = torch.zeros(1, 1, 40, 40)
    assert ring_error(flat, flat).isnan().all()
    with pytest.raises(InputError):
        ring_error(noise, flat)
