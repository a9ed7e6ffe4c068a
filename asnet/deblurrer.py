"""Deblurs photographs of any size: image in, sharp image and blur kernel out.

What stands between a photograph and the networks is here: frames and transparency, grey and odd sizes, the
window from which the blur kernel is estimated, the choice among pairs for several sizes of blur, and the
resizing that brings a blur larger than the networks' grid onto it.
"""

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from asnet.devices import resolve_device
from asnet.errors import ConfigurationError, InputError, WeightsError
from asnet.imaging import (
    Photograph,
    array_from_tensor,
    check_range,
    fit_kernel,
    photograph_from_picture,
    planes_from_array,
    quantised,
    region_slices,
    unit_range,
)
from asnet.imaging.photographed_area import photographed_area
from asnet.imaging.resampling import SMALLEST_SIDE, downscale, kernel_extent, scale_kernel
from asnet.imaging.tiled_synthesis import TiledSynthesis
from asnet.imaging.tiles import most_structured_window
from asnet.networks import DeblurNetwork, ScaleOptimisedNetworks, SizeClassifier, load_networks
from asnet.networks.iterated_analysis import IteratedAnalysisNetwork
from asnet.pretrained import find_weights

#: Names of the floating-point types in which the synthesis network can run.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

#: Downscaling factors that "auto" tries in turn.
SCALES = (1, 2, 4)

#: The blur kernel of a larger photograph is estimated from its most structured window of so many pixels.
ESTIMATION_PIXELS = 1536 * 1024

#: How far a blur must exceed the grid before half the resolution is the better choice. On 24 photographs this
#: took 1 of 48 kernels of up to 31 pixels for larger than the grid of 31, and 21 of 24 from 41 to 61 pixels.
EXCESS = 1.25

#: Share of the grid's side that the estimate of a larger blur fills: with 41 to 61 pixels 17 of 20 did.
FILLED = 0.6

#: A contradictory estimate is not used where it would change the photograph by more than so many of its own
#: standard deviations. On 310 blurred training crops this left 10 alone, of which 9 would have lost 5 dB or
#: more; where such estimates change less, they mostly remove noise.
MUCH_CHANGE = 0.35

#: What `denoise` of 1 multiplies the strengths of the Wiener deconvolution by. On three photographs a factor
#: of 4 was best for a noise of 0.1 and gained 2.2 dB, one of 2 for 0.06 (0.2 dB); for 0.03 none gained.
LARGEST_REGULARISATION = 8

#: Share of a pixel that must be photographed, where a photograph is downscaled, for it to be used.
FULLY = 0.999

ImageType = TypeVar("ImageType", Tensor, NDArray[Any], Image.Image)
Scale = int | Literal["auto"]

#: What the analysis finds in a photograph: a blur, none, or nothing that could be relied upon.
Finding = Literal["blurred", "sharp", "unclear"]

#: Told what is being done and which share of that is done, from 0 to 1; what it raises ends the deblurring.
Progress = Callable[[Literal["estimating", "restoring"], float], None]


@dataclass(frozen=True)
class Deblurred(Generic[ImageType]):
    """The result of `Deblurrer.deblur`.

    Parameters
    ----------
    image : Tensor, ndarray or PIL.Image.Image
        The sharp image, of the kind, type and shape of the blurred one, clipped to its range.
    kernel : Tensor
        The blur kernel (K, K) that was removed, in pixels of the photograph, on the CPU; sum 1.
    scale : int
        Factor by which the photograph was downscaled for it, or at which it was judged.
    finding : {"blurred", "sharp", "unclear"}
        A photograph that looks sharp, or that an unreliable estimate would change much, is left as it is; the
        kernel is then a single pixel. Only the iterated analysis (`compact`) judges this, and never where the
        kernel or the scale is given.
    """

    image: ImageType
    kernel: Tensor
    scale: int
    finding: Finding


class _PlacedKernel(NamedTuple):
    """A blur kernel (K, K) on a pair's grid, the pair's index, their scale, and what the analysis finds."""

    kernel: Tensor
    pair: int
    scale: int
    finding: Finding = "blurred"


class _Options(NamedTuple):
    """What `Deblurrer.deblur` is given beside image and kernel."""

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
        The networks, of which a copy is made: it moves to `device`, its synthesis networks to `dtype`.
    device : str or torch.device
        Where to compute; "auto" is the first CUDA device if there is one, else the CPU.
    dtype : str or torch.dtype
        float32, bfloat16 or float16, for the convolutions of the synthesis network. The size classifier, the
        analysis network and the Wiener deconvolution always compute in float32.
    tile_size : int, optional
        Largest side in pixels of what the U-Net is given at once; by default one for which it takes about
        2 GiB, or more if its receptive field asks for larger tiles.

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
        # The networks given may be in training, or in a type that only the synthesis can compute in.
        network = copy.deepcopy(network).eval().to(self.device, torch.float32)
        self.network = network
        if isinstance(network, DeblurNetwork):
            self._pairs = [network]
            self._largest_sizes: tuple[int, ...] = (network.config.analysis.kernel_size,)
        else:
            self._pairs = [network.pair(index) for index in range(len(network.pairs))]
            self._largest_sizes = network.config.classifier.class_sizes
        self._syntheses = [TiledSynthesis(pair.synthesis.to(self.dtype), tile_size) for pair in self._pairs]
        self.kernel_size = self._largest_sizes[-1]
        # Kernels that are given may be larger than any that the analysis would find.
        self._given_sizes = (*self._largest_sizes[:-1], self._pairs[-1].config.synthesis.kernel_size)
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
                f"{path} holds a size classifier alone, which deblurs nothing; "
                "asnet bundle joins it with its pairs"
            )
        return cls(networks, device=device, dtype=dtype, tile_size=tile_size)

    @property
    def smallest_tile(self) -> int:
        """Smallest `tile_size` that the networks can do with."""
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

        Bars and frames of one colour around a photograph, and what is transparent, take no part: they come
        back as they are.

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
            photograph alone that shows none.
        region : tuple of int, optional
            Left, top, right and bottom, as Pillow's `crop` takes them, of the part of the upright image from
            which the kernel is estimated; its most structured part by default. Not with a kernel.
        strength : float
            How much of the restoration is mixed in: 0 leaves the image as it is, 1 gives the restored one.
        denoise : float
            How strongly noise is held down, at the cost of detail, from 0 to 1. 0 suits a noise of up to 0.03
            of white, 0.3 one of 0.06 and 0.7 one of 0.1. Only for networks with a Wiener deconvolution
            (`compact`).
        progress : callable, optional
            See `Progress`.
        alpha : Tensor or ndarray, optional
            Opacity (H, W) of a tensor or array, 0 where nothing is photographed; of any type and range. A
            picture has its own.

        Returns
        -------
        Deblurred
            Image, blur kernel, scale and finding. The same input gives the same bits on the same machine.

        Raises
        ------
        InputError
            If the image, the kernel or another argument is not as described.

        Examples
        --------
        >>> deblurrer = Deblurrer.from_pretrained("compact", device="cpu")
        >>> blurred = numpy.random.default_rng(0).random((48, 64, 3), numpy.float32)
        >>> result = deblurrer.deblur(blurred, numpy.ones((3, 3)), strength=0.8)
        >>> result.image.shape, result.image.dtype
        ((48, 64, 3), dtype('float32'))
        """
        scale = _checked_scale(scale)
        for name, value in (("strength", strength), ("denoise", denoise)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} must be from 0 to 1, got {value:g}")
        if region is not None and kernel is not None:
            raise InputError("a region is where the blur kernel is estimated, but the kernel is given")
        options = _Options(scale, region, strength, denoise, progress)
        if isinstance(image, Image.Image):
            photograph = _photograph_with_its_own_alpha(image, alpha)
            pixels, found = self._deblur_pixels(photograph.pixels, photograph.alpha, kernel, options)
            return Deblurred(replace(photograph, pixels=pixels.cpu()).picture(), *found)
        pixels, found = self._deblur_pixels(_planes(image), alpha, kernel, options)
        if isinstance(image, Tensor):
            return Deblurred(pixels.to(image.device), *found)
        return Deblurred(array_from_tensor(pixels, image.dtype).reshape(image.shape), *found)

    def estimate_kernel(
        self,
        image: Tensor | NDArray[Any] | Image.Image,
        *,
        scale: Scale = "auto",
        region: tuple[int, int, int, int] | None = None,
        alpha: Tensor | NDArray[Any] | None = None,
    ) -> Tensor:
        """Estimate the blur kernel of an image, whether it can be relied upon or not.

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
        scale = _checked_scale(scale)
        if isinstance(image, Image.Image):
            photograph = _photograph_with_its_own_alpha(image, alpha)
            planes, alpha = photograph.pixels, photograph.alpha
        else:
            planes = _planes(image)
        _check_sides(planes, alpha)
        estimate = self._estimate_in(unit_range(planes), alpha, region, scale)
        return scale_kernel(estimate.kernel, estimate.scale).cpu()

    def _prepare(self, pixels: Tensor) -> Tensor:
        """(1 or 3, H, W) to (1, 3, H, W) float32 on the device."""
        return pixels.to(self.device).expand(3, -1, -1)[None].contiguous()

    @torch.no_grad()
    def _deblur_pixels(
        self,
        pixels: Tensor,
        alpha: Tensor | NDArray[Any] | None,
        kernel: Tensor | NDArray[Any] | None,
        options: _Options,
    ) -> tuple[Tensor, tuple[Tensor, int, Finding]]:
        """Return the image, of the same type, and of `Deblurred` what follows it."""
        _check_sides(pixels, alpha)
        whole = unit_range(pixels)
        area = photographed_area(whole, alpha)
        blurred = self._prepare(area.pixels)
        if kernel is None:
            options.report("estimating", 0.0)
            if options.region is None:
                used = self._estimate(blurred, options.scale, area.usable)
            else:
                used = self._estimate_in(whole, alpha, options.region, options.scale)
            if used.finding == "sharp":
                return _left_alone(pixels, used)
            shown = scale_kernel(used.kernel, used.scale)
        else:
            shown = fit_kernel(torch.as_tensor(kernel).cpu()).to(self.device)
            used = self._fit_to_grid(shown, blurred, options.scale)
        options.report("restoring", 0.0)
        sharp = self._syntheses[used.pair](
            downscale(blurred, used.scale),
            used.kernel,
            regularisation=LARGEST_REGULARISATION**options.denoise,
            progress=lambda share: options.report("restoring", share),
        )
        if used.scale != 1:
            sharp = functional.interpolate(sharp, size=blurred.shape[2:], mode="bicubic", align_corners=False)
        sharp = sharp[0].clamp_(0, 1)
        if used.finding == "unclear":
            before, after = area.known_pixels(blurred[0]), area.known_pixels(sharp)
            change, contrast = (
                (x - y).square().mean() for x, y in ((after, before), (before, before.mean()))
            )
            # Without a photographed pixel both are NaN.
            if not change <= MUCH_CHANGE**2 * contrast:
                return _left_alone(pixels, used)
        if pixels.shape[0] == 1:
            sharp = sharp.mean(0, keepdim=True)
        # In the image's own type where it can be, for what is not photographed to come back exactly.
        given = (pixels if pixels.is_floating_point() else whole).to(sharp.device).clamp(0, 1)
        restored = area.put_back(given, sharp.to(given.dtype))
        if options.strength < 1:
            restored = torch.lerp(given, restored, options.strength)
        return quantised(restored, pixels.dtype), (shown.cpu(), used.scale, "blurred")

    def _estimate_in(
        self,
        pixels: Tensor,
        alpha: Tensor | NDArray[Any] | None,
        region: tuple[int, int, int, int] | None,
        scale: Scale,
    ) -> _PlacedKernel:
        """Estimate the kernel from what is photographed in the region of (1 or 3, H, W)."""
        if region is not None:
            rows, columns = region_slices(region, pixels, 1 if scale == "auto" else scale)
            pixels = pixels[:, rows, columns]
            alpha = None if alpha is None else alpha[rows, columns]
        area = photographed_area(pixels, alpha)
        return self._estimate(self._prepare(area.pixels), scale, area.usable)

    @torch.no_grad()
    def _estimate(self, blurred: Tensor, scale: Scale, usable: Tensor | None = None) -> _PlacedKernel:
        """Estimate the kernel at the smallest scale at which it fits the largest grid.

        Of a blur larger than the grid an estimate shows some part, which fills much of the grid, as one does
        that just fits. So the blur is then estimated at half the size too, and that estimate counts if it
        clearly exceeds the grid of the larger size. A size classifier gives this away: its largest class
        alone can be larger still. Only pixels (1, 1, H, W) that are `usable` take part.
        """
        if scale != "auto":
            return self._estimate_at(blurred, scale, usable)._replace(finding="blurred")
        estimate = self._estimate_at(blurred, SCALES[0], usable)
        for larger in SCALES[1:]:
            may_exceed = kernel_extent(estimate.kernel) >= FILLED * self.kernel_size
            if estimate.finding == "sharp" or estimate.pair != len(self._pairs) - 1 or not may_exceed:
                break
            if min(blurred.shape[2:]) // larger < 4 * self.kernel_size:
                break
            candidate = self._estimate_at(blurred, larger, usable)
            if kernel_extent(candidate.kernel) * larger <= EXCESS * self.kernel_size * estimate.scale:
                break
            estimate = candidate
        return estimate

    def _estimate_at(self, blurred: Tensor, factor: int, usable: Tensor | None) -> _PlacedKernel:
        if usable is not None:
            usable = downscale(usable.to(self.device, torch.float32), factor) > FULLY
        window, usable = most_structured_window(downscale(blurred, factor), ESTIMATION_PIXELS, usable)
        pair = 0 if isinstance(self.network, DeblurNetwork) else self.network.classify(window)
        analysis = self._pairs[pair].analysis
        if not isinstance(analysis, IteratedAnalysisNetwork):
            return _PlacedKernel(analysis(window)[0].float(), pair, factor)
        kernel, sharp, contradictory = (values[0] for values in analysis.estimate(window, usable))
        # Downscaling makes edges steep.
        finding: Finding = "sharp" if factor == 1 and sharp else "unclear" if contradictory else "blurred"
        return _PlacedKernel(kernel.float(), pair, factor, finding)

    def _fit_to_grid(self, kernel: Tensor, blurred: Tensor, scale: Scale) -> _PlacedKernel:
        """Find the scale at which a given kernel fits the largest grid, and the pair for its size there."""
        smallest = min(blurred.shape[2:])
        factor = 1 if scale == "auto" else scale
        while True:
            fitted = scale_kernel(kernel, 1 / factor)
            for pair, largest in enumerate(self._given_sizes):
                if fitted.shape[-1] <= largest:
                    return _PlacedKernel(fitted, pair, factor)
            if scale != "auto":
                raise InputError(
                    f"a blur kernel of {kernel.shape[-1]} pixels does not fit the grid of "
                    f"{self._given_sizes[-1]} at scale {scale}"
                )
            factor *= 2
            if smallest // factor < SMALLEST_SIDE:
                raise InputError(
                    f"a blur kernel of {kernel.shape[-1]} pixels is too large for an image of "
                    f"{blurred.shape[3]}x{blurred.shape[2]}"
                )


def remarks(deblurred: Deblurred[Any], name: str | Path, scale: Scale) -> list[str]:
    """Return what is to be said about a deblurring at that scale of the photograph `name`, in sentences."""
    again = f"; scale {deblurred.scale} deblurs it all the same"
    if deblurred.finding == "sharp":
        return [f"{name} shows no blur: it is left as it is{again}"]
    if deblurred.finding == "unclear":
        return [f"the blur of {name} cannot be estimated reliably: the photograph is left as it is{again}"]
    if deblurred.scale > 1 and scale == "auto":
        return [
            f"the blur of {name} is larger than the model's grid: it was deblurred at 1/{deblurred.scale} of "
            "its size and enlarged"
        ]
    return []


def _left_alone(pixels: Tensor, used: _PlacedKernel) -> tuple[Tensor, tuple[Tensor, int, Finding]]:
    """Return the image as it is, with a kernel of a single pixel on the grid of the one that was found."""
    single = functional.pad(torch.ones(1, 1, dtype=torch.float32), (used.kernel.shape[-1] // 2,) * 4)
    # A copy, so that changing the result does not change the input.
    image = pixels.clamp(0, 1) if pixels.is_floating_point() else pixels.clone()
    return image, (single, used.scale, used.finding)


def _photograph_with_its_own_alpha(picture: Image.Image, alpha: Tensor | NDArray[Any] | None) -> Photograph:
    if alpha is not None:
        raise InputError("alpha goes with tensors and arrays: a picture has its own transparency")
    return photograph_from_picture(picture)


def _check_sides(pixels: Tensor, alpha: Tensor | NDArray[Any] | None) -> None:
    height, width = pixels.shape[1:]
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(
            f"an image must have at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, got {width}x{height}"
        )
    if alpha is not None and tuple(alpha.shape) != (height, width):
        raise InputError(f"alpha must be {(height, width)} like its image, got {tuple(alpha.shape)}")


def _checked_scale(scale: Scale) -> Scale:
    """Return a scale as Python's own number, or "auto"."""
    if isinstance(scale, str) and scale == "auto":
        return "auto"
    try:
        whole = operator.index(scale)
    except TypeError:
        whole = 0
    if whole < 1 or isinstance(scale, bool):
        raise InputError(f"scale must be 'auto' or a whole number of at least 1, got {scale!r}")
    return whole


def _planes(image: Tensor | NDArray[Any]) -> Tensor:
    """Return an image (1 or 3, H, W), uint8, uint16 or floating point in [0, 1], after checking it."""
    if isinstance(image, numpy.ndarray):
        return planes_from_array(image)
    if not isinstance(image, Tensor):
        raise InputError(
            f"an image must be a Pillow picture, an array or a tensor, got {image!r} of type "
            f"{type(image).__name__}; asnet.imaging.read_photograph reads a file"
        )
    if image.dim() != 3 or image.shape[0] not in (1, 3):
        raise InputError(f"an image tensor must be (3, H, W) or (1, H, W), got {tuple(image.shape)}")
    if not image.is_floating_point() and image.dtype not in (torch.uint8, torch.uint16):
        raise InputError(
            f"an image tensor must be uint8, uint16 or floating point in [0, 1], got {image.dtype}"
        )
    check_range(image)
    return image


def _resolve_dtype(dtype: str | torch.dtype) -> torch.dtype:
    resolved = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if resolved not in DTYPES.values():
        raise ConfigurationError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    assert resolved is not None
    return resolved
