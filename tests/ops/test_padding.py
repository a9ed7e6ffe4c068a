"""Images continued beyond their edges."""

import torch

from asnet.ops.padding import pad_symmetric


def test_images_are_mirrored_as_often_as_needed() -> None:
    row = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3)
    padded = pad_symmetric(row, 2, 11)
    assert padded[0, 0].tolist() == [[1, 2, 3, 3, 2, 1, 1, 2, 3, 3, 2]] * 2
    assert pad_symmetric(row, 1, 3) is row


def test_rows_are_mirrored_like_columns() -> None:
    image = torch.rand(2, 3, 4, 5)
    padded = pad_symmetric(image, 19, 13)
    assert torch.equal(pad_symmetric(image.transpose(2, 3), 13, 19), padded.transpose(2, 3))
