import math

import pytest
import torch

from asnet.training.losses import (
    IMAGE_LOSSES,
    KERNEL_LOSSES,
    image_charbonnier,
    image_l1,
    image_l2,
    image_log_l2,
    kernel_cross_entropy,
    kernel_l1,
)


def random_kernels(seed: int) -> torch.Tensor:
    values = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return values / values.sum((-2, -1), keepdim=True)


def test_kernel_losses_of_known_kernels() -> None:
    point = torch.zeros(1, 3, 3)
    point[0, 1, 1] = 1
    flat = torch.full((1, 3, 3), 1 / 9)
    assert float(kernel_l1(point, flat)) == pytest.approx(16 / 9, rel=1e-6)
    assert float(kernel_cross_entropy(flat, point)) == pytest.approx(math.log(9), rel=1e-4)


def test_image_losses_of_known_images() -> None:
    truth = torch.zeros(2, 3, 4, 4)
    estimate = torch.full_like(truth, 0.1)
    assert float(image_l2(estimate, truth)) == pytest.approx(0.01, rel=1e-5)
    assert float(image_l1(estimate, truth)) == pytest.approx(0.1, rel=1e-5)
    assert float(image_charbonnier(estimate, truth)) == pytest.approx(math.hypot(0.1, 1e-3), rel=1e-5)
    # The logarithm of each image's own root mean square error.
    estimate[1] = 0.01
    logarithm = (math.log(math.hypot(0.1, 1e-3)) + math.log(math.hypot(0.01, 1e-3))) / 2
    assert float(image_log_l2(estimate, truth)) == pytest.approx(logarithm, rel=1e-5)


@pytest.mark.parametrize("name", KERNEL_LOSSES)
def test_the_true_kernel_has_the_least_loss_and_zeros_have_gradients(name: str) -> None:
    truth, other = random_kernels(0), random_kernels(1)
    assert KERNEL_LOSSES[name](truth, truth) < KERNEL_LOSSES[name](other, truth)
    empty = torch.zeros_like(truth, requires_grad=True)
    KERNEL_LOSSES[name](empty, truth).backward()
    assert empty.grad is not None
    assert torch.isfinite(empty.grad).all()
    assert (empty.grad < 0).all()


@pytest.mark.parametrize("loss", [*KERNEL_LOSSES.values(), *IMAGE_LOSSES.values()])
def test_losses_of_bfloat16_are_computed_in_float32(loss: object) -> None:
    assert callable(loss)
    value = loss(torch.rand(2, 3, 3).bfloat16(), torch.rand(2, 3, 3))
    assert value.dtype == torch.float32
