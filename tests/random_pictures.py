"""Small random pictures with sharp edges, as photographs to train on."""

from pathlib import Path

import numpy
import torch
from PIL import Image


def write_pictures(folder: Path, coarse: tuple[int, int], size: tuple[int, int]) -> None:
    """Write three pictures of ``size`` (height, width), each of ``coarse`` rectangles (rows, columns)."""
    generator = torch.Generator().manual_seed(0)
    for index in range(3):
        values = torch.rand(1, 3, *coarse, generator=generator)
        picture = torch.nn.functional.interpolate(values, size=size, mode="nearest")[0]
        pixels = (picture * 255).byte().permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(numpy.ascontiguousarray(pixels)).save(folder / f"picture{index}.png")
