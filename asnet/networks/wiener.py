"""Wiener and sparse deconvolution with continued edges, for the synthesis of `compact`.

The frequency response is conj(K) / (|K|^2 + s (|D|^2 + e)), with K the transfer function of the blur kernel,
s the regularisation strength and |D|^2 the power response of the first differences, so that high frequencies,
where photographs have little power, are regularised more. The small e slightly regularises the mean as well.

The sparse deconvolution repeats two steps of half-quadratic splitting (Krishnan and Fergus 2009, with soft
thresholds): differences of the current image below a threshold become 0 and others shrink by it; the next
image is the one whose differences are closest to these and whose blur is closest to the photograph.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.errors import InputError
from asnet.networks.edge_continuation import continued, spectra_times_conjugate
from asnet.ops import periodic_images, periodic_spectra, shrunk_divergence
from asnet.ops.reference import spectra_rows

#: Added to |D|^2 so that the mean of the image is slightly regularised as well.
DIFFERENCE_FLOOR = 0.02

#: Noise, as a share of white, that the strengths of a network that adapts to the noise are for.
REFERENCE_NOISE = 0.01

#: Larger padded images, in pixels, are computed channel by channel, to save memory.
CHANNELWISE_PIXELS = 2**21

#: Where |K|^2 / (|D|^2 + e) is well below the inverse of this, a photograph contains only noise.
NOISE_SELECTIVITY = 1000.0


@lru_cache(maxsize=256)
def fast_fft_length(minimum: int, multiple: int = 2) -> int:
    """Return the smallest multiple of `multiple` >= `minimum` whose only prime factors are 2, 3 and 5."""
    length = -(-minimum // multiple) * multiple
    while True:
        remainder = length
        for prime in (2, 3, 5):
            while remainder % prime == 0:
                remainder //= prime
        if remainder == 1:
            return length
        length += multiple


def transfer_function(kernel: Tensor, height: int, width: int) -> Tensor:
    """Return the transfer function of centred blur kernels on a grid of `height` x `width`.

    Parameters
    ----------
    kernel : Tensor
        Blur kernels (N, K, K), K odd, float32 or float64.
    height, width : int
        Size of the periodic image, each at least K.

    Returns
    -------
    Tensor
        (N, height, width // 2 + 1), complex: the half spectrum as `torch.fft.rfft2` lays it out.
    """
    return cast(Tensor, torch.fft.rfft2(_placed(kernel, height, width)))


def kernel_spectra(kernel: Tensor, height: int, width: int) -> Tensor:
    """Return the transfer function (N, 1, B, 2, width, 16) as `periodic_spectra` lays it out."""
    return periodic_spectra(_placed(kernel, height, width)[:, None])


def _placed(kernel: Tensor, height: int, width: int) -> Tensor:
    """Return periodic images (N, height, width) of blur kernels, their centres at the origin."""
    size = kernel.shape[-1]
    padded = F.pad(kernel, (0, width - size, 0, height - size))
    return padded.roll((-(size // 2), -(size // 2)), (-2, -1))


def difference_power(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """|D|^2 of the first differences along both axes, (B, W, 16) like the spectra of `periodic_spectra`."""
    rows = spectra_rows(height, device).to(dtype)
    columns = torch.arange(width, device=device, dtype=dtype)[:, None]
    return 4 - 2 * torch.cos(2 * torch.pi / height * rows) - 2 * torch.cos(2 * torch.pi / width * columns)


def _power(spectra: Tensor) -> Tensor:
    """Return the squared magnitude (N, C, B, W, 16) of spectra (N, C, B, 2, W, 16)."""
    real, imaginary = spectra.unbind(-3)
    return torch.addcmul(real.square(), imaginary, imaginary)


class Deconvolution:
    """Deconvolves images by their blur kernels; shared intermediate results are computed once.

    Images are continued beyond their edges (`edge_continuation`) by more than the kernel's size in total
    along either axis. The resulting periodic images are called padded.

    Parameters
    ----------
    blurred : Tensor
        Images (N, C, H, W), range [0, 1] or any other; computed in float32 (float64 stays).
    kernel : Tensor
        Blur kernels (N, K, K), K odd, each summing to 1.

    Raises
    ------
    InputError
        If shapes do not fit each other.
    """

    def __init__(self, blurred: Tensor, kernel: Tensor) -> None:
        if blurred.dim() != 4 or kernel.dim() != 3 or kernel.shape[0] != blurred.shape[0]:
            raise InputError(
                "a deconvolution needs blurred (N, C, H, W) and kernel (N, K, K), "
                f"got {tuple(blurred.shape)} and {tuple(kernel.shape)}"
            )
        size = kernel.shape[-1]
        if kernel.shape[-2] != size or size % 2 == 0:
            raise InputError(f"a deconvolution needs square kernels of odd size, got {tuple(kernel.shape)}")
        dtype = torch.float64 if blurred.dtype == torch.float64 else torch.float32
        blurred, kernel = blurred.to(dtype), kernel.to(dtype)
        self._size = blurred.shape[-2:]
        # Somewhat more than the kernel reaches, or the opposite edges would depend on each other.
        sides = [fast_fft_length(length + max(3 * size // 2, size + 24), 4) for length in self._size]
        self._padded_size = (sides[0], sides[1])
        response = kernel_spectra(kernel, *self._padded_size)
        # (N, B, W, 16), like all factors on spectra.
        self._power = _power(response)[:, 0]
        self._difference_power = difference_power(*self._padded_size, blurred.device, dtype)
        prior = self._difference_power + DIFFERENCE_FLOOR
        channels = blurred.shape[1]
        channelwise = sides[0] * sides[1] >= CHANNELWISE_PIXELS and not torch.is_grad_enabled()
        self._parts = [slice(c, c + 1) for c in range(channels)] if channelwise else [slice(0, channels)]
        powers: list[Tensor] = []

        def matched(part: slice) -> Tensor:
            spectra = periodic_spectra(
                continued(blurred[:, part], self._padded_size, response, self._power, prior)
            )
            powers.append(_power(spectra).sum(1))
            return spectra_times_conjugate(spectra, response)

        self._matched = self._by_parts(matched)
        self._image_power = sum(powers[1:], start=powers[0]) / channels

    def _by_parts(self, compute: Callable[[slice], Tensor]) -> Tensor:
        """Return (N, C, ...) assembled from slices of channels that `compute` returns."""
        first = compute(self._parts[0])
        if len(self._parts) == 1:
            return first
        whole = first.new_empty(first.shape[0], len(self._parts), *first.shape[2:])
        whole[:, self._parts[0]] = first
        del first
        for part in self._parts[1:]:
            whole[:, part] = compute(part)
        return whole

    def noise_level(self) -> Tensor:
        """Return the standard deviation (N,) of the noise, measured where the blur leaves almost no signal.

        White noise is measured to 10 %. With a wrong kernel, structure in these frequencies counts as noise,
        which is desirable: the deconvolution by such a kernel is then regularised more.
        """
        pixels = self._size[0] * self._size[1]
        signal = NOISE_SELECTIVITY * self._power / (self._difference_power + DIFFERENCE_FLOOR)
        weight = self._is_frequency() / (1 + signal.square())
        # Beyond the photograph's edges there is no noise; only the photograph's pixels contribute power.
        variance = (weight * self._image_power).flatten(1).sum(1) / (weight.flatten(1).sum(1) * pixels)
        # Of black images, the root's derivative would be infinite.
        return variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()

    def wiener(self, strengths: Tensor) -> list[Tensor]:
        """Return S padded Wiener deconvolutions (N, C, ...) for each image's own strengths (N, S)."""
        prior = self._difference_power + DIFFERENCE_FLOOR
        images = []
        for strength in strengths.to(prior.dtype).unbind(1):
            damping = self._power + strength[:, None, None, None] * prior
            images.append(self._by_parts(partial(self._damped, damping.reciprocal())))
        return images

    def _damped(self, factor: Tensor, part: slice) -> Tensor:
        return self._images(self._matched[:, part], factor)

    def sparse(self, padded: Tensor, strength: Tensor, threshold: Tensor) -> Tensor:
        """Deconvolve towards the large differences of an image.

        Parameters
        ----------
        padded : Tensor
            Padded images (N, C, ...) of `wiener` or an earlier call.
        strength : Tensor
            (N,): weight of the differences relative to the photograph.
        threshold : Tensor
            (N,): root mean square over the channels below which a pixel's differences become 0.

        Returns
        -------
        Tensor
            Padded images (N, C, ...).
        """
        weight = strength.to(self._power.dtype)[:, None, None, None]
        factor = (self._power + weight * self._difference_power).reciprocal()
        divergence = shrunk_divergence(padded, threshold.to(padded.dtype))

        def closest(part: slice) -> Tensor:
            # In place: fresh memory takes longer than the arithmetic.
            spectra = periodic_spectra(divergence[:, part]).mul_(weight[..., None, None])
            return self._images(spectra.add_(self._matched[:, part]), factor)

        return self._by_parts(closest)

    def consistent(self, image: Tensor, part: tuple[slice, slice], padded: Tensor, damping: Tensor) -> Tensor:
        """Make restored images consistent with the photographs.

        Parameters
        ----------
        image : Tensor
            (N, C, h, w): restored part of the photographs, in any floating-point dtype.
        part : tuple of slice
            Rows and columns of that part in the photographs.
        padded : Tensor
            Padded images (N, C, ...) that continue it, for instance a result of `wiener`.
        damping : Tensor
            (N, 2): a and b > 0, below.

        Returns
        -------
        Tensor
            (N, C, h, w): the x with the least |k * x - photograph|^2 + a |x - image|^2 + b |D (x - image)|^2,
            D the first differences. It follows the photograph where the blur leaves it strong, the image
            elsewhere.
        """
        rows, columns = part
        flat, steep = damping.to(self._power.dtype)[:, :, None, None, None].unbind(1)
        weight = flat + steep * self._difference_power
        factor = (self._power + weight).reciprocal()
        weight = weight[:, None, :, None]

        def closest(channels: slice) -> Tensor:
            whole = padded[:, channels].clone()
            whole[..., rows, columns] = image[:, channels].to(whole.dtype)
            spectra = periodic_spectra(whole).mul_(weight).add_(self._matched[:, channels])
            return self._images(spectra, factor)[..., rows, columns]

        return self._by_parts(closest)

    def _images(self, spectra: Tensor, factor: Tensor) -> Tensor:
        return periodic_images(spectra, self._padded_size[0], factor)

    def _is_frequency(self) -> Tensor:
        """Mask (B, 1, 16): not what fills up the last block of vertical frequencies."""
        height = self._padded_size[0]
        return spectra_rows(height, self._power.device) <= height // 2

    def for_each_image(self, values: Sequence[float] | Tensor) -> Tensor:
        """Expand values (S,) to (N, S), in the dtype of the computation."""
        power = self._power
        return torch.as_tensor(values, device=power.device, dtype=power.dtype).expand(power.shape[0], -1)

    def crop(self, padded: Tensor) -> Tensor:
        """Return the photograph's part (..., H, W) of padded images."""
        return padded[..., : self._size[0], : self._size[1]]


def wiener_deconvolution(blurred: Tensor, kernel: Tensor, strengths: Sequence[float] | Tensor) -> Tensor:
    """Deconvolve images by their blur kernels, once for each regularisation strength.

    Parameters
    ----------
    blurred, kernel : Tensor
        See `Deconvolution`.
    strengths : sequence of float or Tensor
        Regularisation strengths s > 0, (S,): about the noise variance over the variance of the image's
        differences. Small values sharpen more and amplify noise.

    Returns
    -------
    Tensor
        (N, S, C, H, W): the deconvolved images, in the dtype of the computation.

    Raises
    ------
    InputError
        If shapes do not fit each other.
    """
    with torch.autocast(blurred.device.type, enabled=False):
        deconvolution = Deconvolution(blurred, kernel)
        images = deconvolution.wiener(deconvolution.for_each_image(strengths))
        return deconvolution.crop(torch.stack(images, dim=1))
