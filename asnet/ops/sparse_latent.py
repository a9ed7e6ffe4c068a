"""The latent image with few gradients of a photograph and a blur kernel."""

import math

import torch
from torch import Tensor

from asnet.errors import InputError
from asnet.ops import reference
from asnet.ops._extension import devices_with_kernel, refuse_backward
from asnet.ops.periodic_spectra import is_transform_length

_DEVICES_WITH_KERNEL = devices_with_kernel("sparse_latent")


def sparse_latent(
    padded: Tensor,
    kernel: Tensor,
    strength: float,
    *,
    beta: float,
    growth: float,
    steps: int,
    observed: Tensor | None = None,
    clipped: Tensor | None = None,
    brightest: float = math.inf,
    ground: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Find periodic images x with few gradients whose blur by the kernel k is the photograph y.

    Each step, starting from x = y, is

        g = grad x where |grad x|^2 >= strength / beta, else 0
        X = (conj(K) Y + beta conj(D) G) / (|K|^2 + beta |D|^2)

    with capital letters for Fourier transforms, grad for forward differences and D for their frequency
    response; then beta grows. Where the photograph is clipped, y is raised to k * x after every step.

    If few pixels differ from an even ground, as on a page of text (Pan et al. 2014), each step is

        u = x where (x - ground)^2 >= strength / beta, else ground
        X = (conj(K) Y + beta (conj(D) G + U)) / (|K|^2 + beta (|D|^2 + 1))

    Inference-only: there is no backward. Devices without a kernel of asnet use torch operations
    (`asnet.ops.reference.sparse_latent`), which take up to twice the time.

    Parameters
    ----------
    padded : Tensor
        Photographs (N, 1, H, W), periodic, float32 or float64; H and W are products of 2, 3 and 5.
    kernel : Tensor
        Blur kernels (N, s, s), s odd and at most H and W, in the dtype of `padded`.
    strength : float
        Cost of a gradient that is not 0, > 0.
    beta : float
        Weight of the first step that pulls grad x towards g, > 0.
    growth : float
        Factor on beta after each step, > 0.
    steps : int
        Number of steps, at least 1.
    observed : Tensor, optional
        Initial y, shaped like `padded`, which is the default.
    clipped : Tensor, optional
        (N, 1, H, W) bool: where `padded` is only a lower limit; by default nowhere.
    brightest : float
        Upper limit of y where the photograph is clipped.
    ground : float, optional
        Intensity of an even ground, finite; by default there is none.

    Returns
    -------
    latent : Tensor
        (N, 1, H, W): x.
    observed : Tensor
        (N, 1, H, W): y after the last step; without `clipped` the initial y.

    Raises
    ------
    InputError
        A number is out of its range, or a side of the photographs is not a product of 2, 3 and 5.

    Examples
    --------
    >>> blurred, kernel = torch.rand(1, 1, 48, 64), torch.ones(1, 3, 3) / 9
    >>> latent, _ = sparse_latent(blurred, kernel, 1e-3, beta=2e-3, growth=2.0, steps=8)
    >>> latent.shape
    torch.Size([1, 1, 48, 64])
    """
    for name, number in (("strength", strength), ("beta", beta), ("growth", growth)):
        if not number > 0:
            raise InputError(f"{name} must be more than 0, got {number}")
    if ground is not None and not math.isfinite(ground):
        raise InputError(f"ground must be finite, got {ground}")
    if steps < 1:
        raise InputError(f"steps must be at least 1, got {steps}")
    if padded.dim() != 4 or not all(is_transform_length(length) for length in padded.shape[2:]):
        raise InputError(
            "padded must have the shape (N, 1, H, W) with products of 2, 3 and 5 for H and W, "
            f"got {tuple(padded.shape)}"
        )
    if padded.device.type not in _DEVICES_WITH_KERNEL:
        return reference.sparse_latent(
            padded,
            kernel,
            strength,
            beta=beta,
            growth=growth,
            steps=steps,
            observed=observed,
            clipped=clipped,
            brightest=brightest,
            ground=ground,
        )
    observed = padded if observed is None else observed
    latent, raised = torch.ops.asnet.sparse_latent(
        padded, observed, clipped, kernel, strength, beta, growth, steps, brightest, ground
    )
    return latent, observed if clipped is None else raised


def _fake(
    padded: Tensor,
    observed: Tensor,
    clipped: Tensor | None,
    kernel: Tensor,
    strength: float,
    beta: float,
    growth: float,
    steps: int,
    brightest: float,
    ground: float | None = None,
) -> tuple[Tensor, Tensor]:
    return padded.new_empty(padded.shape), padded.new_empty(
        (0 if clipped is None else padded.shape[0], *padded.shape[1:])
    )


torch.library.register_fake("asnet::sparse_latent", _fake)
refuse_backward("sparse_latent", instead="asnet.ops.reference.sparse_latent has a backward")
