"""A folder of sharp photographs, decoded once, from which random crops are cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from asnet.errors import InputError
from asnet.files import visible_files
from asnet.imaging import READABLE_SUFFIXES, quantised, read_photograph, unit_range


class Photographs:
    """Every photograph of a folder, in memory as 8-bit RGB.

    Parameters
    ----------
    folder
        Holds files that `asnet.imaging.read_photograph` reads; other files, hidden ones and subfolders are
        ignored. The order is that of the sorted file names. Grey images become RGB, 16-bit ones 8-bit, and
        transparency is dropped.
    device
        Device of the photographs and crops. Photographs take 3 bytes per pixel.

    Raises
    ------
    InputError
        If the folder does not exist or holds no image.
    ImageFileError
        If a file cannot be decoded; it is named.
    """

    def __init__(self, folder: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> None:
        self.folder = Path(folder)
        self.device = torch.device(device)
        if not self.folder.is_dir():
            raise InputError(f"the folder of photographs {self.folder} does not exist")
        paths = visible_files(self.folder, READABLE_SUFFIXES)
        if not paths:
            raise InputError(
                f"the folder {self.folder} holds no JPEG, PNG, TIFF, WebP, HEIC or AVIF photograph"
            )
        self.names = [path.name for path in paths]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self._pixels = [pixels.to(self.device) for pixels in pool.map(_decode, paths)]

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> Tensor:
        """Return one whole photograph, float32 (3, H, W) in [0, 1]."""
        return self._pixels[index].float() / 255.0

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    def require_side(self, size: int) -> None:
        """Raise `InputError`, naming the file, if a photograph is smaller than `size` pixels either way."""
        for name, pixels in zip(self.names, self._pixels, strict=True):
            height, width = pixels.shape[-2:]
            if min(height, width) < size:
                raise InputError(
                    f"{self.folder / name} has {width}x{height} pixels, but crops take {size}x{size}"
                )

    def crops(self, count: int, size: int, *, generator: torch.Generator) -> Tensor:
        """Cut random squares: photograph, position, horizontal flip and transposition are drawn uniformly.

        Parameters
        ----------
        count
            Number of crops N.
        size
            Side of a crop in pixels.
        generator
            Source of every random number; on the CPU it avoids a synchronisation with the device.

        Returns
        -------
        Tensor
            (N, 3, size, size) float32 in [0, 1], on the device of the photographs.

        Raises
        ------
        InputError
            If a photograph is smaller than the crop, `size` is not positive or `count` is negative.
        """
        if count < 0 or size < 1:
            raise InputError(
                f"crops need a count of 0 or more and a size of 1 or more, got {count} and {size}"
            )
        self.require_side(size)
        crops = torch.empty((count, 3, size, size), dtype=torch.uint8, device=self.device)
        # Fractions in float64 are fine enough for any number of photographs and positions.
        draws = torch.rand(
            (count, 5), generator=generator, device=generator.device, dtype=torch.float64
        ).tolist()
        for crop, (which, down, across, flip, transpose) in zip(crops, draws, strict=True):
            pixels = self._pixels[int(which * len(self))]
            top = int(down * (pixels.shape[-2] - size + 1))
            left = int(across * (pixels.shape[-1] - size + 1))
            window = pixels[:, top : top + size, left : left + size]
            if flip < 0.5:
                window = window.flip(-1)
            if transpose < 0.5:
                window = window.transpose(-2, -1)
            crop.copy_(window)
        return crops.float() / 255.0


def _decode(path: Path) -> Tensor:
    pixels = read_photograph(path).pixels
    if pixels.dtype != torch.uint8:
        pixels = quantised(unit_range(pixels), torch.uint8)
    return pixels.expand(3, -1, -1).contiguous()
