"""Training and evaluation data: sharp photographs, blur kernels, degradation, batches."""

from asnet.data.batches import Batch, BatchSource
from asnet.data.blur_kernels import KERNEL_CLASSES, BlurKernelConfig, sample_blur_kernels, support_size
from asnet.data.degradation import DegradationConfig, blur, degrade, with_lights
from asnet.data.examples import Example, blurred_examples
from asnet.data.photograph_pool import Photographs

__all__ = [
    "KERNEL_CLASSES",
    "Batch",
    "BatchSource",
    "BlurKernelConfig",
    "DegradationConfig",
    "Example",
    "Photographs",
    "blur",
    "blurred_examples",
    "degrade",
    "sample_blur_kernels",
    "support_size",
    "with_lights",
]
