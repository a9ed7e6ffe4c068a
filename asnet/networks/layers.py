"""Layers of both networks, with the padding rules of the released Keras model."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asnet.errors import InputError
from asnet.ops import conv2d

#: Weights of R, G and B in the luma Y of the analysis.
LUMA_WEIGHTS = (0.2989, 0.5870, 0.1140)

#: Inside the square root of `standardise`.
STANDARDISE_EPSILON = 1e-7

#: Pixels mixed at a time: smaller products waste time in starting, and larger results leave the cache before
#: they are written back.
PIXELS_AT_ONCE = 8192

#: A feature map with a smaller standard deviation counts as constant.
CONSTANT_MAP_DEVIATION = 1e-9


def luma(image: Tensor) -> Tensor:
    """Return the Y channel (N, 1, H, W) of an RGB image (N, 3, H, W); a one-channel image is its own luma.

    Raises
    ------
    InputError
        If the image has another number of dimensions or channels.
    """
    if image.dim() != 4 or image.shape[1] not in (1, 3):
        raise InputError(
            f"an image must have the shape (N, 3, H, W) or (N, 1, H, W), got {tuple(image.shape)}"
        )
    if image.shape[1] == 1:
        return image
    red, green, blue = image.unbind(1)
    weights = LUMA_WEIGHTS
    return (weights[0] * red + weights[1] * green + weights[2] * blue).unsqueeze(1)


def standardise(image: Tensor) -> Tensor:
    """Return each image (N, C, H, W) of a batch with zero mean and unit variance, over all of its values."""
    centred = image - image.mean((1, 2, 3), keepdim=True)
    return centred * torch.rsqrt(centred.square().mean((1, 2, 3), keepdim=True) + STANDARDISE_EPSILON)


def normalise_maps(features: Tensor, out: Tensor | None = None) -> Tensor:
    """Return every map of (N, C, H, W) zero-mean and divided by its norm std * sqrt(H W); constant ones as 0.

    The correlation of two such maps is a correlation coefficient at every lag. `out`, which may be `features`
    itself, takes the result; autograd does not follow it there.
    """
    centred = torch.sub(features, features.mean((2, 3), keepdim=True), out=out)
    norm = torch.linalg.vector_norm(centred, dim=(2, 3), keepdim=True)
    smallest = CONSTANT_MAP_DEVIATION * math.sqrt(features.shape[2] * features.shape[3])
    # The clamp keeps the gradient of a constant map finite.
    scale = torch.where(norm < smallest, 0.0, norm.clamp(min=smallest).reciprocal())
    return torch.mul(centred, scale, out=out)


def mix_channels(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve channels-last maps (N, C, H, W) with a kernel (C, C, 1, 1); for inference.

    On CPUs the result overwrites x, which saves one of the largest maps.
    """
    if x.device.type != "cpu":
        return conv2d(x, weight, None)
    rows, columns = x.permute(0, 2, 3, 1).view(-1, x.shape[1]), weight[:, :, 0, 0].t().to(x.dtype)
    for pixels in torch.split(rows, PIXELS_AT_ONCE):
        pixels.copy_(pixels @ columns)
    return x


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is at least `value`."""
    return math.ceil(value / multiple) * multiple


def relu(x: Tensor) -> Tensor:
    """Apply ReLU in place: a convolution's output is not used elsewhere, and a map can take 400 MB."""
    return F.relu(x, inplace=True)


class Convolution(nn.Conv2d):
    """Convolution of stride 1 with zero padding, and an optional ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, size: int, *, padding: int = 0, relu: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels, size, padding=padding)
        self.border = (padding,) * 4
        self.relu = relu

    def forward(self, input: Tensor) -> Tensor:
        return conv2d(input, self.weight, self.bias, padding=self.border, relu=self.relu)


class DownConvolution(nn.Conv2d):
    """Convolution of stride 2 with Keras 'same' padding: ceil(H / 2) x ceil(W / 2).

    If an odd number of rows or columns is padded, the extra one is at the bottom or the right.
    """

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__(in_channels, out_channels, size, stride=2)

    def forward(self, input: Tensor) -> Tensor:
        (left, right), (top, bottom) = (
            _same_padding(length, size)
            for length, size in zip(input.shape[:-3:-1], self.kernel_size[::-1], strict=True)
        )
        return conv2d(input, self.weight, self.bias, 2, (left, right, top, bottom))


def _same_padding(length: int, size: int) -> tuple[int, int]:
    """Zeros before and after `length` pixels for a convolution of stride 2."""
    total = max((math.ceil(length / 2) - 1) * 2 + size - length, 0)
    return total // 2, total - total // 2


def raise_by_two(x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool = False) -> Tensor:
    """Transposed convolution of stride 2 with Keras 'same' padding, as a convolution on the coarse grid.

    The four phases of the output (even and odd rows and columns) use separate taps of the kernel. They are
    computed as the channels of one ordinary convolution and then interleaved, which is faster than a
    transposed convolution (on CPUs in bfloat16 five times).

    Parameters
    ----------
    x : Tensor
        (N, C_in, H, W).
    weight : Tensor
        (C_in, C_out, k, k), k >= 2, as `torch.nn.ConvTranspose2d` stores it.
    bias : Tensor or None
        (C_out,).
    relu : bool
        Whether a ReLU follows.

    Returns
    -------
    Tensor
        (N, C_out, 2H, 2W), channels-last. Rows and columns beyond that, (k - 2) // 2 in front, are dropped.
    """
    size = weight.shape[-1]
    dropped = (size - 2) // 2
    # out[2q + r] = sum_d x[q + d] w[r + dropped - 2d], with d between -reach and reach.
    reach = max((1 + dropped) // 2, (size - 1 - dropped) // 2)
    front = 2 * reach - dropped
    back = 4 * reach + 2 - size - front
    taps = 2 * reach + 1
    padded = F.pad(weight, (front, back, front, back))
    # Output channels in the order row phase, column phase, channel, as `interleave` requires.
    phases = padded.reshape(*weight.shape[:2], taps, 2, taps, 2).flip(2, 4).permute(3, 5, 1, 0, 2, 4)
    return conv2d(
        x,
        phases.reshape(-1, weight.shape[0], taps, taps),
        None if bias is None else bias.repeat(4),
        padding=(reach, reach, reach, reach),
        relu=relu,
        interleave=True,
    )


class UpConvolution(nn.ConvTranspose2d):
    """Transposed convolution of stride 2 with Keras 'same' padding, exactly 2H x 2W, and an optional
    ReLU."""

    def __init__(self, in_channels: int, out_channels: int, size: int, *, relu: bool = False) -> None:
        super().__init__(in_channels, out_channels, size, stride=2)
        self.relu = relu

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return raise_by_two(input, self.weight, self.bias, relu=self.relu)


class UnpoolConvolution(nn.Conv2d):
    """Un-pooling, which repeats every pixel 2 x 2, a convolution of odd size that keeps the size, and an
    optional ReLU."""

    def __init__(self, in_channels: int, out_channels: int, size: int, *, relu: bool = False) -> None:
        super().__init__(in_channels, out_channels, size)
        self.relu = relu

    def forward(self, input: Tensor) -> Tensor:
        # Repeating is a transposed convolution with a 2 x 2 box, so both linear steps fit in one kernel.
        flipped = self.weight.flip(2, 3).transpose(0, 1)
        shifts = [(0, 1, 0, 1), (1, 0, 0, 1), (0, 1, 1, 0), (1, 0, 1, 0)]
        boxed = sum((F.pad(flipped, shift) for shift in shifts[1:]), F.pad(flipped, shifts[0]))
        return raise_by_two(input, boxed, self.bias, relu=self.relu)


def fill_normal(weight: Tensor, deviation: float) -> None:
    """Fill weights with normal numbers, except on the meta device, where torch would load its compiler."""
    if not weight.is_meta:
        nn.init.normal_(weight, std=deviation)


def initialise_he(convolution: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    """He initialisation for a layer before a ReLU: normal weights of variance 2 / fan-in, zero biases."""
    fan_in = convolution.weight[0].numel()
    if isinstance(convolution, nn.ConvTranspose2d):
        # Stored (in, out, k, k); with stride 2 only a quarter of the taps meets one output pixel.
        fan_in = convolution.weight.shape[0] * convolution.weight[0, 0].numel() // 4
    fill_normal(convolution.weight, math.sqrt(2 / fan_in))
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
