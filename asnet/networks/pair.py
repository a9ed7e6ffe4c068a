"""The pair: analysis finds the blur kernel, synthesis removes the blur (section 3)."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from asnet.errors import InputError
from asnet.networks.analysis import AnalysisNetwork
from asnet.networks.blurred_photographs import photographs_of
from asnet.networks.config import AnalysisConfig, ASNetConfig, IteratedAnalysisConfig
from asnet.networks.iterated_analysis import IteratedAnalysisNetwork, KernelEstimate
from asnet.networks.kernel_grids import rms_radius
from asnet.networks.layers import luma
from asnet.networks.rival_kernels import RestoreLuma
from asnet.networks.second_estimate import grid_of_second_estimate, second_estimate
from asnet.networks.synthesis import SynthesisNetwork

#: Estimates with a smaller RMS radius in pixels count as known kernels. They are good if there is any blur,
#: and networks that distrust them would treat a slightly blurred photograph as sharp.
TRUSTED_RADIUS = 2.0


class Restore(Protocol):
    """Restores RGB images (1, 3, H, W) by a blur kernel (1, K, K) that may be a doubtful estimate (1,)."""

    def __call__(self, blurred: Tensor, kernel: Tensor, *, estimated: Tensor) -> Tensor: ...


class DeblurResult(NamedTuple):
    """Sharp images (N, 3, H, W), not clipped, and the blur kernels (N, K, K) that were removed.

    Examples
    --------
    >>> result = DeblurResult(torch.rand(1, 3, 48, 64), torch.ones(1, 1, 1))
    >>> image, kernel = result
    """

    image: Tensor
    kernel: Tensor


def is_doubtful(kernel: Tensor) -> Tensor:
    """Return whether the synthesis should distrust estimates of blur kernels.

    Parameters
    ----------
    kernel : Tensor
        Estimates (N, K, K), not negative, each of sum 1.

    Returns
    -------
    Tensor
        (N,) bool.

    Examples
    --------
    >>> is_doubtful(torch.ones(1, 9, 9) / 81), is_doubtful(torch.ones(1, 3, 3) / 9)
    (tensor([True]), tensor([False]))
    """
    return rms_radius(kernel) >= TRUSTED_RADIUS


def build_analysis(
    config: AnalysisConfig | IteratedAnalysisConfig,
) -> AnalysisNetwork | IteratedAnalysisNetwork:
    """Return the analysis network that the configuration describes.

    Examples
    --------
    >>> type(build_analysis(AnalysisConfig(levels=1))).__name__
    'AnalysisNetwork'
    """
    if isinstance(config, IteratedAnalysisConfig):
        return IteratedAnalysisNetwork(config)
    return AnalysisNetwork(config)


def _check_dtype(analysis: AnalysisNetwork | IteratedAnalysisNetwork) -> None:
    dtype = next(analysis.parameters()).dtype
    if isinstance(analysis, IteratedAnalysisNetwork) and dtype in (torch.float16, torch.bfloat16):
        raise InputError(
            f"the iterated analysis cannot compute in {dtype}: convert `network.synthesis` alone, or give "
            "the network to asnet.Deblurrer with that dtype"
        )


class DeblurNetwork(nn.Module):
    """Analysis and synthesis network as one module.

    Parameters
    ----------
    config : ASNetConfig
        Both configurations and their common name.

    Examples
    --------
    >>> import asnet
    >>> network = asnet.load("compact")
    >>> kernel = torch.ones(1, 1, 9) / 9  # a horizontal motion over 9 pixels
    >>> kernel = torch.nn.functional.pad(kernel, (0, 0, 4, 4))
    >>> with torch.no_grad():
    ...     network(torch.rand(1, 3, 48, 64), kernel).image.shape
    torch.Size([1, 3, 48, 64])
    """

    def __init__(self, config: ASNetConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = build_analysis(config.analysis)
        self.synthesis = SynthesisNetwork(config.synthesis)

    def forward(self, blurred: Tensor, kernel: Tensor | None = None) -> DeblurResult:
        """Deblur images.

        Parameters
        ----------
        blurred : Tensor
            RGB images (N, 3, H, W), range [0, 1], H and W at least 16.
        kernel : Tensor, optional
            Known blur kernels (N, K, K) or (1, K, K); without them the analysis network estimates them.
            Except in training, large kernels of an iterated analysis are estimated again; see `estimate`.

        Returns
        -------
        DeblurResult
            Sharp images and blur kernels.

        Raises
        ------
        InputError
            If the iterated analysis, which estimates the kernels, was converted to a type of 16 bits.
        """
        estimated: bool | Tensor = False
        if kernel is None:
            _check_dtype(self.analysis)
            if isinstance(self.analysis, IteratedAnalysisNetwork) and not self.training:
                kernel = self.analysis(blurred, _restoring_luma(self.synthesis, blurred))
                kernel = self._estimated_again(blurred, kernel, None, self.synthesis)
            else:
                kernel = self.analysis(blurred)
            estimated = is_doubtful(kernel)
        return DeblurResult(self.synthesis(blurred, kernel, estimated=estimated), kernel)

    @torch.no_grad()
    def estimate(
        self, blurred: Tensor, usable: Tensor | None = None, restore: Restore | None = None
    ) -> KernelEstimate:
        """Estimate blur kernels by the iterated analysis, large ones with the help of the synthesis.

        The synthesis helps to choose between rival kernels, and large ones are estimated again by it.

        Parameters
        ----------
        blurred : Tensor
            RGB images (N, 3, H, W) or luma (N, 1, H, W), range [0, 1], H and W at least 16.
        usable : Tensor, optional
            (N, 1, H, W) bool, True for pixels that may take part; see `IteratedAnalysisNetwork.estimate`.
        restore : callable, optional
            Restores an RGB image (1, 3, H, W) by a kernel (1, K, K), and is told by `estimated` whether to
            distrust it; for instance in tiles. Also called with grey, smaller images. By default the
            synthesis network does it at once.

        Returns
        -------
        KernelEstimate
            Kernels (N, K, K) on the grid of the analysis, and what it says against their use.

        Raises
        ------
        InputError
            If the network has no iterated analysis, or it was converted to a type of 16 bits.

        Examples
        --------
        >>> import asnet
        >>> asnet.load("compact").estimate(torch.rand(1, 3, 48, 64)).kernel.shape
        torch.Size([1, 101, 101])
        """
        if not isinstance(self.analysis, IteratedAnalysisNetwork):
            raise InputError("only an iterated analysis can tell how reliable its estimates are")
        _check_dtype(self.analysis)
        restore = restore or self.synthesis
        estimate = self.analysis.estimate(blurred, usable, _restoring_luma(restore, blurred))
        kernel = self._estimated_again(blurred, estimate.kernel, usable, restore)
        return estimate._replace(kernel=kernel)

    def _estimated_again(
        self, blurred: Tensor, kernel: Tensor, usable: Tensor | None, restore: Restore
    ) -> Tensor:
        """Replace the large ones of kernels (N, K, K) by a `second_estimate`, which has no gradient."""
        kernels = list(torch.split(kernel, 1))
        for index, first in enumerate(kernels):
            image = blurred[index : index + 1]
            grid = grid_of_second_estimate(first, *image.shape[2:])
            if grid is None:
                continue
            with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
                photograph = photographs_of(image, None if usable is None else usable[index : index + 1])
                restored = restore(image.expand(-1, 3, -1, -1), first, estimated=is_doubtful(first))
                restored = luma(restored.to(photograph.luma)) * photograph.gain
                kernels[index] = second_estimate(photograph, first, restored, grid)
        return torch.cat(kernels)


def _restoring_luma(restore: Restore, like: Tensor) -> RestoreLuma:
    """Return what restores luma by an estimate, in the type of photographs `like`."""

    def restored(seen: Tensor, kernel: Tensor) -> Tensor:
        image = seen.to(like).expand(-1, 3, -1, -1)
        return luma(restore(image, kernel, estimated=is_doubtful(kernel)).to(seen))

    return restored
