"""All numbers of the 16-bit types through a kernel."""

import torch

from asnet.ops import guided_modulation


def check_every_half_precision_number(device: torch.device) -> None:
    """Each of the 65,536 numbers of both types through a load, a multiplication and a rounding store."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32, device=device).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        values = bits.view(dtype).view(1, 8, 64, 128)
        for memory_format in (torch.contiguous_format, torch.channels_last):
            x = values.to(memory_format=memory_format)
            for scale in (1.0, 0.333, 1.001, 2**-9):
                multiplier = torch.full((1, 8), scale - 1, device=device)
                result = guided_modulation(x, multiplier, None, activation=None)
                # 1 + (scale - 1) in float32
                expected = (x.float() * (1 + torch.tensor(scale - 1))).to(dtype)
                assert torch.equal(result.isnan(), expected.isnan()), (dtype, scale)
                same = torch.where(expected.isnan(), True, result == expected)
                assert same.all(), (dtype, scale, x[~same][:4], result[~same][:4], expected[~same][:4])
