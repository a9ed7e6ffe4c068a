"""The operators as layers: `torch.nn.Module` wrappers of the functions."""

from typing import Any

import torch
from torch import Tensor, nn

from asnet.errors import InputError
from asnet.ops.cross_correlation import Boundary, Method, cross_correlation
from asnet.ops.guided_conv import guided_conv2d
from asnet.ops.guided_modulation import Activation


class CrossCorrelation2d(nn.Module):
    """Cross-correlation of all pairs of feature maps over a window of lags; see `cross_correlation`.

    It has no parameters. Input (N, C, H, W), output (N, C (C + 1) / 2, 2 R_y + 1, 2 R_x + 1).

    Parameters
    ----------
    max_lag : int or (int, int)
        R, or (R_y, R_x): the largest lags in pixels, 0 or more.
    boundary : "zero" or "circular"
        Values outside the image: zeros, or the image repeated.
    method : "auto", "direct" or "spectral"
        Method of the computation.

    Examples
    --------
    >>> layer = CrossCorrelation2d(max_lag=5, boundary="circular")
    >>> layer(torch.rand(2, 3, 32, 48)).shape
    torch.Size([2, 6, 11, 11])
    >>> layer
    CrossCorrelation2d(max_lag=5, boundary='circular', method='auto')
    """

    def __init__(
        self, max_lag: int | tuple[int, int], *, boundary: Boundary = "zero", method: Method = "auto"
    ) -> None:
        super().__init__()
        self.max_lag = max_lag
        self.boundary: Boundary = boundary
        self.method: Method = method

    def forward(self, features: Tensor) -> Tensor:
        """Return the correlations of feature maps (N, C, H, W)."""
        return cross_correlation(features, self.max_lag, boundary=self.boundary, method=self.method)

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        return f"max_lag={self.max_lag}, boundary={self.boundary!r}, method={self.method!r}"


class GuidedConv2d(nn.Conv2d):
    """A convolution whose output is modulated by a blur kernel (Eq. 1 of the paper); see `guided_conv2d`.

    Parameters and ``state_dict`` are those of `torch.nn.Conv2d`: ``weight`` (C_out, C_in, K_y, K_x) and
    ``bias`` (C_out,). Multiplier and shift are inputs, computed from the blur kernel by another module.

    Parameters
    ----------
    in_channels, out_channels : int
        C_in and C_out.
    kernel_size, stride, padding : int or (int, int)
        (vertical, horizontal), as in `torch.nn.Conv2d`; the padding is zeros.
    bias : bool
        Whether there is a bias.
    activation : "relu" or None
        Activation after the modulation.
    device, dtype
        Of the parameters, as in `torch.nn.Conv2d`.

    Raises
    ------
    InputError
        If the activation is unknown, or the padding is given in words.

    Examples
    --------
    >>> layer = GuidedConv2d(3, 8, kernel_size=3, padding=1)
    >>> multiplier, shift = torch.zeros(1, 8), torch.zeros(1, 8)
    >>> layer(torch.rand(2, 3, 16, 16), multiplier, shift).shape
    torch.Size([2, 8, 16, 16])
    """

    padding: tuple[int, int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
        *,
        activation: Activation = "relu",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if isinstance(padding, str):
            raise InputError(f"padding must be an integer or a pair of them, got {padding!r}")
        if activation not in ("relu", None):
            raise InputError(f'activation must be "relu" or None, got {activation!r}')
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, bias=bias, device=device, dtype=dtype
        )
        self.activation: Activation = activation

    def forward(
        self,
        input: Tensor,
        multiplier: Tensor | None = None,
        shift: Tensor | None = None,
        onto: Tensor | None = None,
    ) -> Tensor:
        """Return ``act((x * W + c) * (1 + m) + b)``, plus r before the activation.

        Parameters
        ----------
        input : Tensor
            x, feature maps (N, C_in, H, W).
        multiplier, shift : Tensor, optional
            m and b, (N, C_out), or (1, C_out) for one blur kernel throughout the batch.
        onto : Tensor, optional
            r, with the shape of the result; it may be overwritten.
        """
        return guided_conv2d(
            input,
            self.weight,
            self.bias,
            multiplier,
            shift,
            stride=self.stride,  # type: ignore[arg-type]
            padding=self.padding,
            activation=self.activation,
            onto=onto,
        )

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        convolution: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{convolution}, activation={self.activation!r}"
