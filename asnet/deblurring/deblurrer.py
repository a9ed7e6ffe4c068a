"""Deblurs photographs of any size: image in, sharp image and blur kernel out.

Whole photographs keep their own type in memory. Networks get parts of them in floating point, and the result
is assembled in the photograph's type.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from asnet.deblurring.canvas import Canvas
from asnet.deblurring.inputs import (
    check_share,
    check_sides,
    checked_scale,
    kernel_values,
    photograph_of,
    planes_of,
)
from asnet.deblurring.kernel_search import KernelSearch, PlacedKernel, Scale, Status
from asnet.deblurring.photographed_area import photographed_area
from asnet.deblurring.resampling import downscale, resized_rows, scale_kernel
from asnet.deblurring.tiled_synthesis import Part, joined
from asnet.deblurring.tiles import row_strips
from asnet.devices import resolve_device
from asnet.errors import ConfigurationError, InputError, WeightsError
from asnet.imaging import (
    array_from_tensor,
    fit_kernel,
)
from asnet.networks import DeblurNetwork, ScaleOptimisedNetworks, SizeClassifier, load_networks
from asnet.networks.pair import is_doubtful
from asnet.pretrained import find_weights

#: Names of the floating-point types in which the synthesis network can run.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

#: A contradictory estimate is not used if it would change the photograph by more than this many of its
#: standard deviations. Of 310 blurred training crops, 10 were left unchanged, of which 9 would have lost 5 dB
#: or more; estimates that change less mostly remove noise.
MUCH_CHANGE = 0.35

#: Factor on the strengths of the Wiener deconvolution for `denoise` 1. On three photographs a factor of 4 was
#: best for a noise of 0.1 and gained 2.2 dB, one of 2 for 0.06 (0.2 dB); for 0.03 none gained.
LARGEST_REGULARISATION = 8

ImageType = TypeVar("ImageType", Tensor, NDArray[Any], Image.Image)
#: Called with the current stage and its finished share, from 0 to 1; an exception ends the deblurring.
Progress = Callable[[Literal["estimating", "restoring"], float], None]


@dataclass(frozen=True)
class Deblurred(Generic[ImageType]):
    """The result of `Deblurrer.deblur`.

    Parameters
    ----------
    image : Tensor, ndarray or PIL.Image.Image
        The sharp image, with the type, dtype and shape of the input, clipped to its range.
    kernel : Tensor
        The blur kernel (K, K) that was removed, in pixels of the photograph, on the CPU; sum 1.
    scale : int
        Factor by which the photograph was downscaled for it, or at which it was judged.
    status : {"blurred", "sharp", "unclear"}
        A photograph that looks sharp, or that an unreliable estimate would change strongly, is left
        unchanged; the kernel is then a single pixel. Only the iterated analysis (`compact`) decides this, and
        only if neither kernel nor scale is given.
    """

    image: ImageType
    kernel: Tensor
    scale: int
    status: Status


class _Options(NamedTuple):
    """Options of `Deblurrer.deblur`."""

    scale: Scale
    region: tuple[int, int, int, int] | None
    strength: float
    denoise: float
    progress: Progress | None

    def report(self, stage: Literal["estimating", "restoring"], share: float) -> None:
        if self.progress is not None:
            self.progress(stage, share)


class Deblurrer:
    """Networks ready to deblur photographs: a pair, or a size classifier and the pairs of its classes.

    Parameters
    ----------
    network : DeblurNetwork or ScaleOptimisedNetworks
        The networks. They are copied; the copy moves to `device`, its synthesis networks to `dtype`.
    device : str or torch.device
        Where to compute; "auto" is the first CUDA device if there is one, else the CPU.
    dtype : str or torch.dtype
        float32, bfloat16 or float16, for the convolutions of the synthesis network. The size classifier, the
        analysis network and the Wiener deconvolution always compute in float32.
    tile_size : int, optional
        Largest side in pixels of a tile for the U-Net; by default one that takes about 512 MiB, or more if
        its receptive field requires larger tiles.

    Raises
    ------
    DeviceError
        If the device is not available here.
    InputError
        If the tile size is too small for the network.
    """

    def __init__(
        self,
        network: DeblurNetwork | ScaleOptimisedNetworks,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "float32",
        tile_size: int | None = None,
    ) -> None:
        self.device = resolve_device(device)
        self.dtype = _resolve_dtype(dtype)
        # The given networks may be in training mode, or in a type that only the synthesis supports.
        network = copy.deepcopy(network).eval().to(self.device, torch.float32)
        self.network = network
        self._search = KernelSearch(network, tile_size)
        self._syntheses = self._search.syntheses
        for synthesis in self._syntheses:
            synthesis.network.to(self.dtype)
        self.kernel_size = self._search.kernel_size
        self.tile_size = max(synthesis.tile_size for synthesis in self._syntheses)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "compact",
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "float32",
        tile_size: int | None = None,
    ) -> "Deblurrer":
        """Load weights by the name of a model that comes with asnet, or from a file.

        Parameters
        ----------
        model : str or Path
            "compact", or a weights file that `asnet train`, `import-weights` or `bundle` wrote.
        device, dtype, tile_size
            See the class.

        Raises
        ------
        WeightsError
            If there is no such model or file, or the file is damaged or does not fit.
        DeviceError
            If the device is not available here.
        """
        path = find_weights(model)
        networks = load_networks(path)
        if isinstance(networks, SizeClassifier):
            raise WeightsError(
                f"{path} holds only a size classifier, which deblurs nothing; "
                "asnet bundle joins it with its pairs"
            )
        return cls(networks, device=device, dtype=dtype, tile_size=tile_size)

    @property
    def smallest_tile(self) -> int:
        """Smallest `tile_size` that the networks support."""
        return max(synthesis.smallest_tile for synthesis in self._syntheses)

    def deblur(
        self,
        image: ImageType,
        kernel: Tensor | NDArray[Any] | None = None,
        *,
        scale: Scale = "auto",
        region: tuple[int, int, int, int] | None = None,
        strength: float = 1.0,
        denoise: float = 0.0,
        progress: Progress | None = None,
        alpha: Tensor | NDArray[Any] | None = None,
    ) -> Deblurred[ImageType]:
        """Deblur an image.

        Bars and frames of one colour around a photograph, and transparent pixels, are ignored and returned
        unchanged.

        Parameters
        ----------
        image : Tensor, ndarray or PIL.Image.Image
            A tensor (3, H, W) or (1, H, W) or an array (H, W), (H, W, 1) or (H, W, 3), uint8, uint16 or
            floating point in [0, 1]; or a picture, whose transparency and 16 bits of grey are kept and whose
            orientation tag is applied. H and W are at least 16.
        kernel : Tensor or ndarray, optional
            The blur kernel (K, K) if it is known, not negative; any size, any sum.
        scale : int or "auto"
            Deblur the image downscaled by this factor and enlarge the result, for a blur larger than the
            networks' grid. "auto" is the smallest of 1, 2 and 4 at which the blur fits, and leaves a
            photograph without blur unchanged.
        region : tuple of int, optional
            Left, top, right and bottom, as Pillow's `crop` takes them, of the part of the upright image from
            which the kernel is estimated; its most structured part by default. Not with a kernel.
        strength : float
            Weight of the restored image in the blend: 0 leaves the image unchanged, 1 gives the restored one.
        denoise : float
            Noise suppression, at the cost of detail, from 0 to 1. 0 suits a noise of up to 0.03
            of white, 0.3 one of 0.06 and 0.7 one of 0.1. Only for networks with a Wiener deconvolution
            (`compact`).
        progress : callable, optional
            See `Progress`.
        alpha : Tensor or ndarray, optional
            Opacity (H, W) of a tensor or array, 0 where nothing is photographed; any type and range. Pillow
            pictures have their own.

        Returns
        -------
        Deblurred
            Image, blur kernel, scale and status. The same input gives the same bits on the same machine.

        Raises
        ------
        InputError
            If the image, the kernel or another argument is not as described.

        Examples
        --------
        >>> import numpy
        >>> deblurrer = Deblurrer.from_pretrained("compact", device="cpu")
        >>> blurred = numpy.random.default_rng(0).random((48, 64, 3), numpy.float32)
        >>> result = deblurrer.deblur(blurred, numpy.ones((3, 3)), strength=0.8)
        >>> result.image.shape, result.image.dtype
        ((48, 64, 3), dtype('float32'))
        """
        scale = checked_scale(scale)
        for name, value in (("strength", strength), ("denoise", denoise)):
            check_share(name, value)
        if region is not None and kernel is not None:
            raise InputError("a region cannot be combined with a given blur kernel")
        options = _Options(scale, region, strength, denoise, progress)
        if isinstance(image, Image.Image):
            photograph = photograph_of(image, alpha)
            pixels, found = self._deblur_pixels(photograph.pixels, photograph.alpha, kernel, options)
            return Deblurred(replace(photograph, pixels=pixels).picture(), *found)
        pixels, found = self._deblur_pixels(planes_of(image), alpha, kernel, options)
        if isinstance(image, Tensor):
            return Deblurred(pixels, *found)
        return Deblurred(array_from_tensor(pixels, image.dtype).reshape(image.shape), *found)

    def estimate_kernel(
        self,
        image: Tensor | NDArray[Any] | Image.Image,
        *,
        scale: Scale = "auto",
        region: tuple[int, int, int, int] | None = None,
        alpha: Tensor | NDArray[Any] | None = None,
    ) -> Tensor:
        """Estimate the blur kernel of an image, even if the estimate is unreliable.

        Parameters
        ----------
        image, scale, region, alpha
            See `deblur`.

        Returns
        -------
        Tensor
            (K, K) float32 of sum 1 in pixels of the image, on the CPU. K is the side of the networks' grid at
            scale 1 (with several pairs that of the pair for this size of blur) and grows with the scale.

        Raises
        ------
        InputError
            If the image, the scale, the region or the opacity is not as described.
        """
        scale = checked_scale(scale)
        if isinstance(image, Image.Image):
            photograph = photograph_of(image, alpha)
            planes, alpha = photograph.pixels, photograph.alpha
        else:
            planes = planes_of(image)
        check_sides(planes, alpha)
        estimate = self._search.estimate_in(planes, alpha, region, scale)
        return scale_kernel(estimate.kernel, estimate.scale).cpu()

    @torch.no_grad()
    def _deblur_pixels(
        self,
        pixels: Tensor,
        alpha: Tensor | NDArray[Any] | None,
        kernel: Tensor | NDArray[Any] | None,
        options: _Options,
    ) -> tuple[Tensor, tuple[Tensor, int, Status]]:
        """Return the image, in the same type, and the other fields of `Deblurred`."""
        check_sides(pixels, alpha)
        area = photographed_area(pixels, alpha)
        if kernel is None:
            options.report("estimating", 0.0)
            if options.region is None:
                used = self._search.estimate(area, options.scale)
            else:
                used = self._search.estimate_in(pixels, alpha, options.region, options.scale)
            if used.status == "sharp":
                return _left_alone(pixels, used)
            shown = scale_kernel(used.kernel, used.scale)
        else:
            shown = fit_kernel(kernel_values(kernel)).to(self.device)
            used = self._search.fit_to_grid(shown, area.pixels.shape[1:], options.scale)
        options.report("restoring", 0.0)
        is_unclear = used.status == "unclear"
        canvas = Canvas(pixels, area, strength=options.strength, measures_change=is_unclear)
        estimated = kernel is None and (is_unclear or bool(is_doubtful(used.kernel[None])))
        for part in self._restored(area.pixels, used, options, estimated=estimated):
            canvas.put(*part)
        if is_unclear:
            contrast, change = canvas.contrast_and_change()
            # With hardly a photographed pixel both are NaN.
            if not change <= MUCH_CHANGE**2 * contrast:
                return _left_alone(pixels, used)
        return canvas.image, (shown.cpu(), used.scale, "blurred")

    def _restored(
        self, pixels: Tensor, used: PlacedKernel, options: _Options, *, estimated: bool
    ) -> Iterator[Part]:
        """Yield the parts of the restored image, in the size of (1 or 3, H, W)."""
        parts = self._syntheses[used.pair].parts(
            downscale(pixels[None], used.scale),
            used.kernel,
            regularisation=LARGEST_REGULARISATION**options.denoise,
            estimated=estimated,
            progress=lambda share: options.report("restoring", share),
        )
        if used.scale == 1:
            yield from parts
            return
        small = joined(parts)
        height, width = pixels.shape[1:]
        for rows in row_strips(height, width):
            yield Part(rows, slice(0, width), resized_rows(small, (height, width), rows, "bicubic"))


def remarks(deblurred: Deblurred[Any], name: str | Path, scale: Scale) -> list[str]:
    """Return notes for the user on a deblurring of the photograph `name` at that scale, one sentence each."""
    again = f"; scale {deblurred.scale} deblurs it anyway"
    if deblurred.status == "sharp":
        return [f"{name} shows no blur: it is left unchanged{again}"]
    if deblurred.status == "unclear":
        return [f"the blur of {name} cannot be estimated reliably: the photograph is left unchanged{again}"]
    if deblurred.scale > 1 and scale == "auto":
        return [
            f"the blur of {name} is larger than the model's grid: it was deblurred at 1/{deblurred.scale} of "
            "its size and enlarged"
        ]
    return []


def _left_alone(pixels: Tensor, used: PlacedKernel) -> tuple[Tensor, tuple[Tensor, int, Status]]:
    """Return the image unchanged, with a one-pixel kernel on the grid of the estimate."""
    single = functional.pad(torch.ones(1, 1, dtype=torch.float32), (used.kernel.shape[-1] // 2,) * 4)
    # A copy, so that changing the result does not change the input.
    image = pixels.clamp(0, 1) if pixels.is_floating_point() else pixels.clone()
    return image, (single, used.scale, used.status)


def _resolve_dtype(dtype: str | torch.dtype) -> torch.dtype:
    resolved = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if resolved not in DTYPES.values():
        raise ConfigurationError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    assert resolved is not None
    return resolved
