"""Image files in and out: photographs with everything they carry, blur kernels, comparison pictures."""

from asnet.imaging.comparison import comparison_picture, comparison_size
from asnet.imaging.decoding import MOST_PIXELS
from asnet.imaging.files import (
    OTHER_SUFFIXES,
    PHOTOGRAPH_SUFFIXES,
    RAW_SUFFIXES,
    READABLE_SUFFIXES,
    check_suffix,
    write_bytes,
    write_in_one_step,
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
from asnet.imaging.line_kernels import line_kernel, parse_line
from asnet.imaging.photographs import (
    Photograph,
    check_fits,
    encoded_photograph,
    photograph_from_picture,
    read_photograph,
    write_photograph,
)
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
from asnet.imaging.regions import Region, region_slices

__all__ = [
    "KERNEL_SUFFIXES",
    "MOST_PIXELS",
    "OTHER_SUFFIXES",
    "PHOTOGRAPH_SUFFIXES",
    "RAW_SUFFIXES",
    "READABLE_SUFFIXES",
    "Photograph",
    "Region",
    "array_from_tensor",
    "check_fits",
    "check_range",
    "check_suffix",
    "comparison_picture",
    "comparison_size",
    "encoded_photograph",
    "fit_kernel",
    "kernel_picture",
    "kernel_sheet",
    "line_kernel",
    "parse_line",
    "photograph_from_picture",
    "picture_from_tensor",
    "planes_from_array",
    "quantised",
    "read_kernel",
    "read_photograph",
    "region_slices",
    "tensor_from_array",
    "tensor_from_picture",
    "unit_range",
    "write_bytes",
    "write_in_one_step",
    "write_kernel",
    "write_photograph",
    "write_picture",
]
