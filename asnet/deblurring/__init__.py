"""Deblurring of photographs of any size and type with the networks."""

from asnet.deblurring.comparison import comparison_picture, comparison_size
from asnet.deblurring.deblurrer import Deblurred, Deblurrer, remarks
from asnet.deblurring.line_kernels import line_kernel, parse_line
from asnet.deblurring.regions import Region, region_slices

__all__ = [
    "Deblurred",
    "Deblurrer",
    "Region",
    "comparison_picture",
    "comparison_size",
    "line_kernel",
    "parse_line",
    "region_slices",
    "remarks",
]
