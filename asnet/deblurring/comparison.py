"""One picture of a photograph, its deblurred result and the blur kernel."""

from PIL import Image
from torch import Tensor

from asnet.deblurring.resampling import shown_kernel
from asnet.imaging.kernel_files import kernel_picture
from asnet.imaging.pixels import picture_from_tensor

GAP = 8
_BACKGROUND = (32, 32, 32)
#: Side of the kernel's picture as a share of the photograph's shorter side, and its minimum in pixels.
_KERNEL_SHARE = 3
_SMALLEST_KERNEL_SIDE = 93


def comparison_size(height: int, width: int, kernel_size: int) -> tuple[int, int]:
    """Return width and height of the comparison of a photograph of height x width pixels."""
    side = _kernel_side(height, width, kernel_size)
    return 2 * width + side + 4 * GAP, max(height, side) + 2 * GAP


def comparison_picture(blurred: Tensor, result: Tensor, kernel: Tensor) -> Image.Image:
    """Return photograph, result and enlarged kernel side by side.

    Parameters
    ----------
    blurred, result : Tensor
        (1 or 3, H, W), range [0, 1].
    kernel : Tensor
        (K, K), not negative; its largest value is drawn white. Empty borders are not drawn.
    """
    height, width = blurred.shape[1:]
    sheet = Image.new("RGB", comparison_size(height, width, kernel.shape[-1]), _BACKGROUND)
    side = _kernel_side(height, width, kernel.shape[-1])
    sheet.paste(picture_from_tensor(blurred).convert("RGB"), (GAP, GAP))
    sheet.paste(picture_from_tensor(result).convert("RGB"), (2 * GAP + width, GAP))
    shown = shown_kernel(kernel)
    side = side // shown.shape[-1] * shown.shape[-1]
    sheet.paste(kernel_picture(shown, side=side).convert("RGB"), (3 * GAP + 2 * width, GAP))
    return sheet


def _kernel_side(height: int, width: int, kernel_size: int) -> int:
    wanted = max(min(height, width) // _KERNEL_SHARE, _SMALLEST_KERNEL_SIDE)
    return max(1, wanted // kernel_size) * kernel_size
