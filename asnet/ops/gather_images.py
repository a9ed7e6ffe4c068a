"""Several images as one feature map."""

from collections.abc import Sequence

import torch
from torch import Tensor

from asnet.errors import InputError
from asnet.ops import reference
from asnet.ops._extension import devices_with_kernel, refuse_backward
from asnet.ops.transform_conv2d import wants_gradient

_DEVICES_WITH_KERNEL = devices_with_kernel("gather_images")


def gather_images(
    images: Sequence[Tensor],
    factor: int,
    size: tuple[int, int],
    dtype: torch.dtype,
    *,
    mean: Tensor | None = None,
    scale: float = 1.0,
    difference_scale: float = 1.0,
) -> Tensor:
    """Concatenate images along their channels, and move blocks of pixels into channels.

    With a `mean`, it is subtracted from the first image, and the others become `difference_scale` times their
    difference from the first, so that a network sees in any dtype how they differ.

    Differentiable. Operations of torch compute it if gradients are needed, for dtypes other than those below,
    and on devices without a kernel of asnet.

    Parameters
    ----------
    images : sequence of Tensor
        At least one (N, C, H, W), H and W at least 1; the kernel takes float32.
    factor : int
        Side of the blocks, at least 1.
    size : tuple of int
        To this height and width, multiples of `factor`, the images are first continued at the bottom and at
        the right by mirroring them, the edge pixels repeated.
    dtype : torch.dtype
        Type of the result; the kernel gives float32 and bfloat16.
    mean : Tensor, optional
        (N, C): mean colour of the first images.
    scale : float
        Factor on all values.
    difference_scale : float
        Factor on the differences besides.

    Returns
    -------
    Tensor
        (N, factor^2 C len(images), size[0] / factor, size[1] / factor), channels-last; the channels of each
        image in the order of `torch.nn.functional.pixel_unshuffle`.

    Raises
    ------
    InputError
        If the shapes differ, the mean or the factor is not as above, or the size is smaller than the images
        or no multiple of the factor.

    Examples
    --------
    >>> blurred = torch.rand(1, 3, 30, 50)
    >>> gather_images([blurred, blurred], 2, (32, 64), torch.bfloat16).shape
    torch.Size([1, 24, 16, 32])
    """
    shapes = [tuple(image.shape) for image in images]
    if not shapes or len(shapes[0]) != 4 or any(shape != shapes[0] for shape in shapes):
        raise InputError(f"images must be at least one and of the same shape (N, C, H, W), got {shapes}")
    if mean is not None and mean.shape != shapes[0][:2]:
        raise InputError(f"mean must have the shape {shapes[0][:2]}, got {tuple(mean.shape)}")
    if factor < 1:
        raise InputError(f"factor must be at least 1, got {factor}")
    if any(whole < part or whole % factor for whole, part in zip(size, shapes[0][2:], strict=True)):
        raise InputError(
            f"the size must be a multiple of the factor {factor} and at least {shapes[0][2:]}, got {size}"
        )
    has_kernel = (
        images[0].device.type in _DEVICES_WITH_KERNEL
        and all(image.dtype == torch.float32 for image in images)
        and dtype in (torch.float32, torch.bfloat16)
    )
    if not has_kernel or wants_gradient(*images, mean):
        return reference.gather_images(
            images, factor, size, dtype, mean=mean, scale=scale, difference_scale=difference_scale
        )
    mean = None if mean is None else mean.float()
    rows, columns = size[0] // factor, size[1] // factor
    gathered: Tensor = torch.ops.asnet.gather_images(
        list(images), mean, scale, difference_scale, factor, rows, columns, dtype == torch.bfloat16
    )
    return gathered.permute(0, 3, 1, 2)


def _fake(
    images: list[Tensor],
    mean: Tensor | None,
    scale: float,
    difference_scale: float,
    factor: int,
    rows: int,
    columns: int,
    to_bfloat16: bool,
) -> Tensor:
    depth = len(images) * images[0].shape[1] * factor**2
    dtype = torch.bfloat16 if to_bfloat16 else None
    return images[0].new_empty((images[0].shape[0], rows, columns, depth), dtype=dtype)


torch.library.register_fake("asnet::gather_images", _fake)
refuse_backward("gather_images", instead="asnet.ops.gather_images has one")
