"""The synthesis network: blurred image and blur kernel to sharp image (section 3.2)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asnet.errors import InputError
from asnet.networks.config import SynthesisConfig
from asnet.networks.guidance import (
    DESCRIPTION_WIDTH,
    check_kernel,
    crop_kernel,
    guide_inputs,
    guide_width,
    kernel_inputs,
)
from asnet.networks.layers import Convolution, initialise_he, round_up
from asnet.networks.synthesis_levels import DecoderLevel, EncoderLevel, GuidedBlock
from asnet.networks.wiener import REFERENCE_NOISE, Deconvolution
from asnet.ops import gather_images, reused_memory

#: The blurred image and its Wiener copies differ by less than the image varies; this brings both to one size.
DIFFERENCE_SCALE = 2.5

#: A residual block adds this share of an ordinary layer's output at first, and learns the rest.
RESIDUAL_BRANCH_SCALE = 0.3

#: Noise is measured on the middle of a photograph, at most this many pixels a side.
NOISE_SIDE = 1024

#: Bounds of the noise that strengths adapt to: below the first, errors of the kernel matter more, as those of
#: measured kernels do in Levin's photographs; above the second a photograph is lost.
NOISE_RANGE = (0.004, 0.1)

#: A part of a padded image is copied where it is less than this share of it.
HALO_SHARE = 0.9

#: Both values of the damping in an untrained network, for a noise of 0.01.
INITIAL_DAMPING = 0.3

#: The strengths that restore best grow with this power of the noise, thresholds with the next one; measured
#: on photographs and noise of 0.002 to 0.05.
STRENGTH_EXPONENT = 1.5
THRESHOLD_EXPONENT = 0.5


class PhotographStatistics(NamedTuple):
    """Statistics of whole photographs, shared by their tiles so that these fit together."""

    mean: Tensor  # (N, 3): mean colour
    noise: Tensor | None  # (N,): standard deviation of the noise; None where the network does not adapt to it


class Consistency(NamedTuple):
    """What makes the U-Net's result consistent with the photographs."""

    deconvolution: Deconvolution
    part: tuple[slice, slice]  # rows and columns of the photographs that the U-Net restores
    padded: Tensor  # (N, 3, ...): a deconvolution that continues the result beyond the edges
    regularisation: float  # factor on the damping


class PreparedImages(NamedTuple):
    """Input of the U-Net."""

    images: tuple[Tensor, ...]  # each (N, 3, H, W): the blurred images and their deconvolutions
    mean: Tensor  # (N, 3): mean colour of the photographs
    description: Tensor  # (N, F): what the guiding units read of the kernels
    consistency: Consistency | None = None  # None where the U-Net's result is final

    def window(self, rows: slice, columns: slice) -> "PreparedImages":
        """Return the U-Net's input for a part of the images."""
        images = tuple(image[..., rows, columns] for image in self.images)
        return self._replace(images=images, consistency=None)


class SynthesisNetwork(nn.Module):
    """U-Net whose convolutions are modulated by the blur kernel (section 3.2, Eq. 1).

    Parameters
    ----------
    config : SynthesisConfig
        Topology; see its fields.

    Examples
    --------
    >>> config = SynthesisConfig(kernel_size=7, channels=(4, 8))
    >>> with torch.no_grad():
    ...     SynthesisNetwork(config)(torch.rand(1, 3, 32, 32), torch.ones(1, 3, 3) / 9).shape
    torch.Size([1, 3, 32, 32])
    """

    def __init__(self, config: SynthesisConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        pixels = config.space_to_depth**2
        in_channels = 3 * config.image_count * pixels
        self.stem: Convolution | None = None
        if config.block == "residual":
            self.stem = Convolution(in_channels, channels[0], 3, padding=1)
            in_channels = channels[0]
        self.encoder = nn.ModuleList()
        for level, width in enumerate(channels):
            next_width = channels[level + 1] if level + 1 < len(channels) else None
            self.encoder.append(EncoderLevel(config, in_channels, width, next_width))
            in_channels = width if config.downsampling == "max_pool" else next_width or width
        self.decoder = nn.ModuleList(
            DecoderLevel(config, channels[level + 1], channels[level]) for level in range(len(channels) - 1)
        )
        self.output = Convolution(channels[0], 3 * pixels, 3, padding=1)
        self.damping = nn.Linear(guide_width(config), 2) if config.consistency else None
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                initialise_he(module)
        for module in self.modules():
            if isinstance(module, GuidedBlock) and module.residual:
                last = module.convolutions[-1]
                assert isinstance(last, nn.Conv2d)
                with torch.no_grad():
                    last.weight.mul_(RESIDUAL_BRANCH_SCALE)
        if self.config.residual != "none":
            # Training starts from the image that the output is added to.
            nn.init.zeros_(self.output.weight)
        if self.damping is not None:
            nn.init.zeros_(self.damping.weight)
            with torch.no_grad():
                self.damping.bias.fill_(math.log(INITIAL_DAMPING))
                if self.config.adapts_to_noise and self.config.guide_input == "description":
                    self.damping.weight[:, DESCRIPTION_WIDTH] = STRENGTH_EXPONENT

    def forward(
        self,
        blurred: Tensor,
        kernel: Tensor,
        *,
        statistics: PhotographStatistics | None = None,
        halo: tuple[int, int, int, int] = (0, 0, 0, 0),
        regularisation: float = 1.0,
        estimated: bool | Tensor = False,
    ) -> Tensor:
        """Deblur images by known blur kernels.

        Parameters
        ----------
        blurred : Tensor
            RGB images (N, 3, H, W), range [0, 1], H and W at least 16.
        kernel : Tensor
            Blur kernels (N, K, K) or (1, K, K) for all of them, K odd and at most `config.kernel_size`,
            non-negative, sum 1.
        statistics : PhotographStatistics, optional
            Those of the photographs of which `blurred` are tiles; those of each image itself by default.
        halo : tuple of int
            Pixels at the left, right, top and bottom that are there for the deconvolution alone, whose
            response reaches much farther than the U-Net; the result is without them.
        regularisation : float
            Factor on the strengths of the Wiener deconvolution: above 1 it amplifies less noise and restores
            less detail. Networks without that deconvolution take 1 alone.
        estimated : bool or Tensor
            Whether the kernels are estimates, which may be wrong, for all images or (N,) for each. Networks
            that do not distrust estimates restore alike by both.

        Returns
        -------
        Tensor
            Sharp images (N, 3, H, W), less the halo, in the dtype of `blurred`; not clipped to [0, 1].

        Raises
        ------
        InputError
            If a shape is not one of these, or the network has nothing to regularise.
        """
        prepared = self.prepare(
            blurred,
            kernel,
            statistics=statistics,
            halo=halo,
            regularisation=regularisation,
            estimated=estimated,
        )
        return self.finish(prepared, self.restore(prepared)).to(blurred.dtype)

    def prepare(
        self,
        blurred: Tensor,
        kernel: Tensor,
        *,
        statistics: PhotographStatistics | None = None,
        halo: tuple[int, int, int, int] = (0, 0, 0, 0),
        regularisation: float = 1.0,
        estimated: bool | Tensor = False,
    ) -> PreparedImages:
        """Deconvolve images and describe their kernels: all that comes before the U-Net; see `forward`."""
        config = self.config
        if regularisation != 1 and not config.wiener_strengths:
            raise InputError("this network has no Wiener deconvolution: denoise does not apply")
        if blurred.dim() != 4 or blurred.shape[1] != 3 or min(blurred.shape[2:]) < 16:
            raise InputError(
                "a blurred image must have the shape (N, 3, H, W) with H and W at least 16, "
                f"got {tuple(blurred.shape)}"
            )
        kernel = self._checked_kernel(blurred, kernel)
        left, right, top, bottom = halo
        rows, columns = slice(top, blurred.shape[2] - bottom), slice(left, blurred.shape[3] - right)
        core = blurred[..., rows, columns]
        images, noise, padded = [core], None, None
        with torch.autocast(blurred.device.type, enabled=False):
            if config.wiener_strengths:
                deconvolution = Deconvolution(blurred, kernel.expand(blurred.shape[0], -1, -1))
                if statistics is not None:
                    noise = statistics.noise
                elif config.adapts_to_noise:
                    noise = self._noise(blurred, kernel, deconvolution)
                deconvolved, padded = self._deconvolved(deconvolution, noise, regularisation, (rows, columns))
                images += deconvolved
            flags = torch.as_tensor(estimated, device=blurred.device).expand(blurred.shape[0])
            description = guide_inputs(config, kernel, noise, flags)
        mean = core.mean((2, 3)) if statistics is None else statistics.mean
        consistency = None
        if padded is not None:
            consistency = Consistency(deconvolution, (rows, columns), padded, regularisation)
        return PreparedImages(tuple(images), mean, description, consistency)

    def flipped(self, prepared: PreparedImages, kernel: Tensor, axes: tuple[int, ...]) -> PreparedImages:
        """Return the U-Net's input for mirror images, by the blur kernels (N, K, K) that `prepare` had."""
        mirrored = kernel_inputs(self.config, crop_kernel(kernel).flip(axes))
        # Noise and doubt remain.
        others = prepared.description[:, mirrored.shape[1] :]
        return prepared._replace(
            images=tuple(image.flip(axes) for image in prepared.images),
            description=torch.cat([mirrored, others], dim=1),
            consistency=None,
        )

    def restore(self, prepared: PreparedImages) -> Tensor:
        """Run the U-Net on what `prepare` gave and return sharp images (N, 3, H, W) as `forward` does."""
        config = self.config
        images, mean, description = list(prepared.images), prepared.mean, prepared.description
        blurred = images[0]
        height, width = blurred.shape[2:]
        if config.residual == "none":
            return self._estimate(images, description)[..., :height, :width].to(blurred.dtype)
        base = images.pop(0 if config.residual == "blurred" else 1 + config.residual_strength)
        # Differences, not images: ReLUs whose inputs all share the image's mean soon die.
        estimate = base + self._estimate([base, *images], description, mean)[..., :height, :width]
        return estimate.to(blurred.dtype)

    def finish(self, prepared: PreparedImages, restored: Tensor) -> Tensor:
        """Make the result (N, 3, H, W) of `restore` fit the photographs, if the network is to do so."""
        if self.damping is None or prepared.consistency is None:
            return restored
        deconvolution, part, padded, regularisation = prepared.consistency
        with torch.autocast(restored.device.type, enabled=False):
            damping = self.damping(prepared.description.to(self.damping.weight.dtype)).float().exp()
            return deconvolution.consistent(restored, part, padded, regularisation * damping)

    def statistics(self, blurred: Tensor, kernel: Tensor) -> PhotographStatistics:
        """Measure whole photographs whose tiles are to be deblurred.

        Parameters
        ----------
        blurred, kernel : Tensor
            See `forward`.

        Raises
        ------
        InputError
            If the kernel's shape is not as `forward` asks for.
        """
        kernel = self._checked_kernel(blurred, kernel)
        noise = self._noise(blurred, kernel) if self.config.adapts_to_noise else None
        return PhotographStatistics(blurred.mean((2, 3)), noise)

    def _checked_kernel(self, blurred: Tensor, kernel: Tensor) -> Tensor:
        """Return blur kernels as small as they are, after checking that they fit."""
        check_kernel(kernel, self.config.kernel_size)
        if kernel.shape[0] not in (1, blurred.shape[0]):
            raise InputError(
                f"{blurred.shape[0]} images need 1 or {blurred.shape[0]} blur kernels, got {kernel.shape[0]}"
            )
        return crop_kernel(kernel)

    def _noise(self, blurred: Tensor, kernel: Tensor, whole: Deconvolution | None = None) -> Tensor:
        """Measure the noise (N,); `whole` is the deconvolution of `blurred` if there is one already."""
        height, width = blurred.shape[2:]
        if whole is None or max(height, width) > NOISE_SIDE:
            top, left = (max(0, (length - NOISE_SIDE) // 2) for length in (height, width))
            middle = blurred[..., top : top + NOISE_SIDE, left : left + NOISE_SIDE]
            whole = Deconvolution(middle, kernel.expand(blurred.shape[0], -1, -1))
        return whole.noise_level().clamp(*NOISE_RANGE)

    def _deconvolved(
        self,
        deconvolution: Deconvolution,
        noise: Tensor | None,
        regularisation: float,
        part: tuple[slice, slice],
    ) -> tuple[list[Tensor], Tensor | None]:
        """Return a part of the Wiener copies (N, 3, h, w), in the order of their strengths, and of the sparse
        one, and for `consistency` the padded copy of `residual_strength`."""
        config = self.config

        def adapted(values: tuple[float, ...], exponent: float) -> Tensor:
            factor = 1.0 if noise is None else ((noise / REFERENCE_NOISE) ** exponent)[:, None]
            return deconvolution.for_each_image(values) * factor

        def cut(padded: Tensor, *, is_kept: bool = False) -> Tensor:
            image = deconvolution.crop(padded)[..., part[0], part[1]]
            # A view would keep a halo in memory.
            is_small = not is_kept and image.numel() < HALO_SHARE * padded.numel()
            return image.contiguous() if is_small else image

        kept = config.residual_strength if config.consistency else None
        strengths = regularisation * adapted(config.wiener_strengths, STRENGTH_EXPONENT)
        (padded,) = deconvolution.wiener(strengths[:, :1])
        base = padded if kept == 0 else None
        images, sparse = [cut(padded, is_kept=kept == 0)], []
        # Before the other copies are there: it takes more memory than they do.
        if config.sparse_strengths:
            weights = adapted(config.sparse_strengths, STRENGTH_EXPONENT).unbind(1)
            thresholds = adapted(config.sparse_thresholds, THRESHOLD_EXPONENT).unbind(1)
            for weight, threshold in zip(weights, thresholds, strict=True):
                padded = deconvolution.sparse(padded, weight, threshold)
            sparse = [cut(padded)]
        for index in range(1, strengths.shape[1]):
            (padded,) = deconvolution.wiener(strengths[:, index : index + 1])
            base = padded if index == kept else base
            images.append(cut(padded, is_kept=index == kept))
        return images + sparse, base

    def _estimate(self, inputs: list[Tensor], kernel: Tensor, mean: Tensor | None = None) -> Tensor:
        """Run the U-Net on images (N, C, H, W), guided by the description (N, F) of the kernel.

        With the mean colour (N, 3), on the differences of the images from the first. The result covers the
        images padded to `config.size_multiple`.
        """
        with reused_memory(inputs[0]):
            config = self.config
            height, width = (round_up(length, config.size_multiple) for length in inputs[0].shape[2:])
            dtype = self.output.weight.dtype
            kernel = kernel.to(dtype)
            x = gather_images(
                inputs,
                config.space_to_depth,
                (height, width),
                dtype,
                mean=mean,
                scale=config.image_scale,
                difference_scale=DIFFERENCE_SCALE,
            )
            if self.stem is not None:
                x = self.stem(x)
            maps = []
            for encoder in self.encoder:
                assert isinstance(encoder, EncoderLevel)
                maps.append(encoder(x, kernel))
                if encoder.down is not None:
                    x = encoder.down(maps[-1])
            for decoder in reversed(self.decoder):
                maps.append(decoder(maps, kernel))
            x = self.output(maps.pop())
            x = F.pixel_shuffle(x, config.space_to_depth)
            return x / config.image_scale if config.image_scale != 1 else x
