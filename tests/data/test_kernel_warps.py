"""Warps of kernels: rotated, enlarged and shifted by the matrix and the shift."""

import torch

from asnet.data.kernel_warps import warped_kernels

UNIT = torch.eye(2)[None]
STILL = torch.zeros(1, 2)


def pixel(x: int, y: int, size: int = 11) -> torch.Tensor:
    kernel = torch.zeros(1, size, size)
    kernel[0, size // 2 + y, size // 2 + x] = 1
    return kernel


def test_points_go_where_matrix_and_shift_take_them() -> None:
    quarter_turn = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])
    torch.testing.assert_close(warped_kernels(pixel(3, 1), quarter_turn, STILL), pixel(-1, 3))
    torch.testing.assert_close(warped_kernels(pixel(3, 1), UNIT, torch.tensor([[1.0, -2.0]])), pixel(4, -1))
    moved = warped_kernels(pixel(3, 1), quarter_turn, torch.tensor([[1.0, -2.0]]))
    torch.testing.assert_close(moved, pixel(0, 1))


def test_a_larger_copy_covers_more_pixels() -> None:
    kernel = torch.zeros(1, 21, 21)
    kernel[0, 8:13, 8:13] = 1
    warped = warped_kernels(kernel, 2 * UNIT, STILL)
    assert 4 * 25 * 0.9 < warped.sum() < 4 * 25 * 1.1
    assert (warped[0, 6:15, 6:15] > 0.5).all()


def test_a_kernel_of_which_nothing_would_be_left_stays() -> None:
    beyond = torch.tensor([[50.0, 0.0]])
    assert torch.equal(warped_kernels(pixel(2, 2), UNIT, beyond), pixel(2, 2))
