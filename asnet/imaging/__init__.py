"""Image files in and out: photographs with everything they carry, blur kernels, comparison pictures."""

from asnet.imaging.formats import (
    OTHER_SUFFIXES,
    PHOTOGRAPH_SUFFIXES,
    RAW_SUFFIXES,
    READABLE_SUFFIXES,
    check_suffix,
    write_atomically,
    write_bytes,
    write_picture,
)
from asnet.imaging.kernel_files import (
    KERNEL_SUFFIXES,
    fit_kernel,
    kernel_picture,
    kernel_sheet,
    read_kernel,
    write_kernel,
)
from asnet.imaging.photographs import (
    Photograph,
    check_fits,
    encoded_photograph,
    photograph_from_picture,
    read_photograph,
    write_photograph,
)
from asnet.imaging.pillow_decoding import MOST_PIXELS
from asnet.imaging.pixels import (
    array_from_tensor,
    check_range,
    picture_from_tensor,
    planes_from_array,
    quantised,
    tensor_from_array,
    tensor_from_picture,
    unit_range,
)

__all__ = [
    "KERNEL_SUFFIXES",
    "MOST_PIXELS",
    "OTHER_SUFFIXES",
    "PHOTOGRAPH_SUFFIXES",
    "RAW_SUFFIXES",
    "READABLE_SUFFIXES",
    "Photograph",
    "array_from_tensor",
    "check_fits",
    "check_range",
    "check_suffix",
    "encoded_photograph",
    "fit_kernel",
    "kernel_picture",
    "kernel_sheet",
    "photograph_from_picture",
    "picture_from_tensor",
    "planes_from_array",
    "quantised",
    "read_kernel",
    "read_photograph",
    "tensor_from_array",
    "tensor_from_picture",
    "unit_range",
    "write_atomically",
    "write_bytes",
    "write_kernel",
    "write_photograph",
    "write_picture",
]
