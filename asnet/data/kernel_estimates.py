"""Pairs of true blur kernels and their estimates, drawn from a file."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from asnet.data.blur_kernels import support_size
from asnet.data.random_numbers import RandomNumbers
from asnet.errors import InputError

# A pair is drawn from this many with the sizes closest to the requested one.
_NEIGHBOURS = 24


class KernelEstimates:
    """Blur kernels with estimates of them, for training non-blind deblurring on real errors.

    Parameters
    ----------
    path
        A safetensors file, as written by `experiments/estimate_kernels.py`, with the tensors `kernel` and
        `estimate`, both (M, K, K), K odd, not negative, each kernel of sum 1, its estimate aligned with it.
    canvas
        Side of the square grid of returned kernels, odd; larger kernels are left out.

    Raises
    ------
    InputError
        If the file is missing or damaged, holds other tensors, or no kernel fits the canvas.
    """

    def __init__(self, path: str | os.PathLike[str], *, canvas: int) -> None:
        if not Path(path).is_file():
            raise InputError(f"the file of kernel estimates {path} does not exist")
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(f"the file of kernel estimates {path} is damaged: {error}") from None
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        shape = shapes.get("kernel", ())
        if shapes != {"kernel": shape, "estimate": shape} or len(shape) != 3 or shape[1] != shape[2]:
            raise InputError(
                f"{path} must hold the tensors kernel and estimate, both (M, K, K), and holds {shapes}"
            )
        pairs = torch.stack([tensors["kernel"], tensors["estimate"]], dim=1).float()
        sizes = support_size(pairs.flatten(0, 1)).view(-1, 2).amax(1)
        order = sizes.argsort(stable=True)
        order = order[sizes[order] <= canvas]
        if not len(order):
            raise InputError(f"no kernel of {path} fits a grid of {canvas} pixels")
        border = (canvas - shape[1]) // 2
        # A negative border crops empty margins.
        self._pairs = functional.pad(pairs[order], (border,) * 4)
        self._sizes = sizes[order]

    def __len__(self) -> int:
        return len(self._sizes)

    def draw(self, sizes: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw a pair for each of the sizes, mirrored and transposed in one of 8 ways.

        Parameters
        ----------
        sizes
            (N,) int64: wanted sizes in pixels, as `support_size` measures them; pairs of about these sizes
            are returned.
        generator
            Source of every random number, on the CPU.

        Returns
        -------
        tuple of Tensor
            Kernels and their estimates, (N, canvas, canvas) float32 each, on the device of `sizes`.
        """
        numbers = RandomNumbers(len(sizes), generator, "cpu")
        places = torch.searchsorted(self._sizes, sizes.cpu())
        first = (places - _NEIGHBOURS // 2).clamp(0, max(0, len(self) - _NEIGHBOURS))
        chosen = first + (numbers.uniform() * min(_NEIGHBOURS, len(self))).long()
        drawn = torch.empty_like(self._pairs[chosen])
        for result, pair, way in zip(drawn, self._pairs[chosen], numbers.integer(0, 7).tolist(), strict=True):
            flipped = pair.flip([axis for axis, bit in ((-1, 1), (-2, 2)) if way & bit])
            result.copy_(flipped.transpose(-1, -2) if way & 4 else flipped)
        kernels, estimates = drawn.to(sizes.device).unbind(1)
        return kernels, estimates
