"""Visualisation of a validation: blurred, estimated and true images side by side, with their kernels."""

from collections.abc import Sequence
from pathlib import Path

import numpy
from PIL import Image, ImageDraw
from torch import Tensor

from asnet.imaging import write_picture
from asnet.training.validation import Picture

CELL = 256
GAP = 6
CAPTION = 18
#: Side of a drawn blur kernel, in the upper left corner of its image.
KERNEL_SIDE = 93


def visualisation_size(rows: int) -> tuple[int, int]:
    """Return the width and height in pixels of a visualisation with that many rows."""
    return 3 * CELL + 4 * GAP, GAP + rows * (CELL + CAPTION + GAP)


def write_visualisation(path: Path, pictures: Sequence[Picture]) -> None:
    """Write a visualisation as PNG, one row per photograph: blurred, estimate and truth with kernels.

    Images are cropped to their centre at full resolution, or enlarged by an integer to fill the cell.

    Raises
    ------
    ImageFileError
        If the file cannot be written.
    """
    sheet = Image.new("RGB", visualisation_size(len(pictures)), (32, 32, 32))
    draw = ImageDraw.Draw(sheet)
    for row, picture in enumerate(pictures):
        top = GAP + row * (CELL + CAPTION + GAP)
        cells: list[tuple[Tensor, Tensor | None]] = [
            (picture.blurred, None),
            (picture.estimate, picture.estimated_kernel),
            (picture.sharp, picture.true_kernel),
        ]
        for column, (image, kernel) in enumerate(cells):
            left = GAP + column * (CELL + GAP)
            sheet.paste(_cell(image), (left, top))
            if kernel is not None:
                sheet.paste(_kernel(kernel), (left, top))
        draw.text((GAP, top + CELL + 3), f"{picture.name}: {picture.caption}", fill=(220, 220, 220))
    write_picture(path, sheet)


def _cell(image: Tensor) -> Image.Image:
    """The centre of an image (3, H, W) on a square of CELL pixels."""
    height, width = image.shape[-2:]
    visible_height, visible_width = min(CELL, height), min(CELL, width)
    top, left = (height - visible_height) // 2, (width - visible_width) // 2
    part = image[:, top : top + visible_height, left : left + visible_width]
    pixels = (part.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    shown = Image.fromarray(pixels)
    factor = CELL // max(visible_height, visible_width)
    shown = shown.resize((visible_width * factor, visible_height * factor), Image.Resampling.NEAREST)
    cell = Image.new("RGB", (CELL, CELL))
    cell.paste(shown, ((CELL - shown.width) // 2, (CELL - shown.height) // 2))
    return cell


def _kernel(kernel: Tensor) -> Image.Image:
    """A blur kernel (K, K) in grey, its largest value white, enlarged to KERNEL_SIDE with a frame."""
    values = kernel.float().clamp(min=0)
    values = values / values.max().clamp(min=1e-12)
    pixels = numpy.ascontiguousarray((values * 255).round().byte().numpy())
    grey = Image.fromarray(pixels).resize((KERNEL_SIDE, KERNEL_SIDE), Image.Resampling.NEAREST).convert("RGB")
    framed = Image.new("RGB", (KERNEL_SIDE + 2, KERNEL_SIDE + 2), (220, 160, 40))
    framed.paste(grey, (1, 1))
    return framed
