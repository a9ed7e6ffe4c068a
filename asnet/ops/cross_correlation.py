"""Cross-correlation of all pairs of feature maps over a window of lags, the basis of blur estimation.

There are two methods: the direct sum, and a spectral method that cuts the image into strips and tiles, adds
up the cross spectra of their feature maps and transforms the sums back once, for the wanted lags only. Its
memory does not grow with the image. Both have a gradient of the same form. The faster one is chosen by
counting their operations and, on CUDA, the memory that they move: ``cpu/cross_correlation_plan.cpp`` and
``cuda/cross_correlation_plan.h`` in ``csrc/cross_correlation``.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from asnet.errors import AsnetError, InputError
from asnet.ops._extension import devices_with_kernel

Boundary = Literal["zero", "circular"]
Method = Literal["auto", "direct", "spectral"]

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

_DEVICES_WITH_KERNEL = devices_with_kernel("cross_correlation")


def cross_correlation(
    features: Tensor,
    max_lag: int | tuple[int, int],
    *,
    boundary: Boundary = "zero",
    method: Method = "auto",
) -> Tensor:
    """Cross-correlate all pairs of feature maps over the lags -R .. R in both directions.

    ``out[n, p, R_y + t, R_x + s]`` is the sum over y, x of ``f_i(y - t, x - s) f_j(y, x)``, where p counts
    the pairs i <= j in row-major upper-triangle order: (0, 0), (0, 1), .., (0, C - 1), (1, 1), .. The pairs
    i > j are these flipped in both axes (`append_flipped_pairs`).

    Differentiable in `features`; there is no double backward. Devices without a kernel of asnet use Fourier
    transforms of the whole image.

    Parameters
    ----------
    features : Tensor
        Feature maps (N, C, H, W), C, H and W at least 1, float32, float64, bfloat16 or float16. Sums are in
        float32 (float64 for float64), and under autocast the result is float32.
    max_lag : int or (int, int)
        R, or (R_y, R_x): the largest lags in pixels, 0 or more; they may exceed the image.
    boundary : "zero" or "circular"
        Values outside the image: zeros, or the image repeated.
    method : "auto", "direct" or "spectral"
        Method; "auto" uses the one that is expected to be faster. The results agree up to rounding.

    Returns
    -------
    Tensor
        (N, C (C + 1) / 2, 2 R_y + 1, 2 R_x + 1), the dtype of `features`.

    Raises
    ------
    InputError
        An argument has an unusable value.

    Notes
    -----
    The correlation layer of Kaufman and Fattal (CVPR 2020), section 3.1, the lag's sign as printed there.

    Examples
    --------
    >>> correlation = cross_correlation(torch.rand(2, 3, 32, 48), max_lag=5)
    >>> correlation.shape  # 6 pairs of 3 maps, 11 x 11 lags
    torch.Size([2, 6, 11, 11])
    """
    lag_y, lag_x = _check(features, max_lag, boundary, method)
    height, width = features.shape[2:]
    circular = boundary == "circular"
    # A periodic image has as many distinct lags as pixels; beyond the size of a finite image nothing
    # overlaps.
    computed_y = min(lag_y, height // 2 if circular and lag_y >= height else height - 1)
    computed_x = min(lag_x, width // 2 if circular and lag_x >= width else width - 1)
    if features.device.type in _DEVICES_WITH_KERNEL:
        correlation: Tensor = torch.ops.asnet.cross_correlation(
            features, computed_y, computed_x, circular, method
        )
    else:
        correlation = _whole_image(features, computed_y, computed_x, circular)
    if (computed_y, computed_x) == (lag_y, lag_x):
        return correlation
    if not circular:
        margin_y, margin_x = lag_y - computed_y, lag_x - computed_x
        return F.pad(correlation, (margin_x, margin_x, margin_y, margin_y))
    for dim, lag, computed, size in ((2, lag_y, computed_y, height), (3, lag_x, computed_x, width)):
        if computed < lag:
            lags = (torch.arange(-lag, lag + 1, device=features.device) + computed) % size
            correlation = correlation.index_select(dim, lags)
    return correlation


def append_flipped_pairs(correlation: Tensor) -> Tensor:
    """Append the pairs (j, i) to the pairs (i, j), i <= j: the same maps flipped in both axes.

    Parameters
    ----------
    correlation : Tensor
        (N, P, 2 R_y + 1, 2 R_x + 1), from `cross_correlation`.

    Returns
    -------
    Tensor
        (N, 2 P, 2 R_y + 1, 2 R_x + 1). The pairs (i, i) are there twice, as in the released topology.

    Examples
    --------
    >>> append_flipped_pairs(torch.rand(2, 6, 11, 11)).shape
    torch.Size([2, 12, 11, 11])
    """
    return torch.cat([correlation, correlation.flip(-2, -1)], dim=1)


def _check(features: Tensor, max_lag: int | tuple[int, int], boundary: str, method: str) -> tuple[int, int]:
    """The largest lags (vertical, horizontal), or `InputError`."""
    if features.dim() != 4 or 0 in features.shape[1:]:
        raise InputError(
            "features must be feature maps of shape (N, C, H, W) with C, H and W at least 1, "
            f"got the shape {tuple(features.shape)}"
        )
    if features.dtype not in _DTYPES:
        raise InputError(f"features must be float32, float64, bfloat16 or float16, got {features.dtype}")
    lags = max_lag if isinstance(max_lag, tuple | list) else (max_lag, max_lag)
    if len(lags) != 2 or any(not isinstance(lag, int) or lag < 0 for lag in lags):
        raise InputError(f"max_lag must be one or two integers of at least 0, got {max_lag!r}")
    if boundary not in ("zero", "circular"):
        raise InputError(f'boundary must be "zero" or "circular", got {boundary!r}')
    if method not in ("auto", "direct", "spectral"):
        raise InputError(f'method must be "auto", "direct" or "spectral", got {method!r}')
    return lags[0], lags[1]


def _whole_image(features: Tensor, lag_y: int, lag_x: int, circular: bool) -> Tensor:
    """Fallback by Fourier transforms of the whole image, for devices without a kernel."""
    height, width = features.shape[2:]
    size = (height, width) if circular else (height + lag_y, width + lag_x)
    computing = torch.promote_types(features.dtype, torch.float32)
    spectra = torch.fft.rfft2(features.to(computing), s=size)
    first, second = torch.triu_indices(features.shape[1], features.shape[1], device=features.device)
    rows = torch.arange(-lag_y, lag_y + 1, device=features.device) % size[0]
    columns = torch.arange(-lag_x, lag_x + 1, device=features.device) % size[1]
    windows = []
    # A few pairs at a time: all products together would take hundreds of times the memory of the features.
    for i, j in zip(first.split(32), second.split(32), strict=True):
        whole = torch.fft.irfft2(spectra[:, j] * spectra[:, i].conj(), s=size)
        windows.append(whole[:, :, rows][:, :, :, columns])
    return torch.cat(windows, dim=1).to(features.dtype)


def _fake(features: Tensor, lag_y: int, lag_x: int, circular: bool, method: str) -> Tensor:
    count, channels = features.shape[:2]
    return features.new_empty((count, channels * (channels + 1) // 2, 2 * lag_y + 1, 2 * lag_x + 1))


def _fake_backward(
    grad: Tensor, features: Tensor, lag_y: int, lag_x: int, circular: bool, method: str
) -> Tensor:
    return features.new_empty(features.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, *ctx.options = inputs
    ctx.save_for_backward(features)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
    (features,) = ctx.saved_tensors
    gradient = torch.ops.asnet.cross_correlation_backward(grad, features, *ctx.options)
    return gradient, None, None, None, None


def _refuse_double_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    raise AsnetError("asnet.ops.cross_correlation has no double backward")


torch.library.register_fake("asnet::cross_correlation", _fake)
torch.library.register_fake("asnet::cross_correlation_backward", _fake_backward)
torch.library.register_autograd("asnet::cross_correlation", _backward, setup_context=_save)
torch.library.register_autograd("asnet::cross_correlation_backward", _refuse_double_backward)
# Sums over a whole image exceed the range of float16 and the precision of bfloat16.
for _device in ("cpu", "cuda"):
    torch.library.register_autocast("asnet::cross_correlation", _device, torch.float32)
