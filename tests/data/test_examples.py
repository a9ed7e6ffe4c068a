"""Examples: blurred and sharp photographs correspond, and are made one at a time."""

import pytest
import torch
from benchmark_data import scene

from asnet.data import BlurKernelConfig, DegradationConfig, blur, blurred_examples, sample_blur_kernels


def test_blurred_and_sharp_are_aligned_and_made_when_asked_for() -> None:
    asked = []

    def photographs():  # type: ignore[no-untyped-def]
        for index in range(3):
            asked.append(index)
            yield str(index), scene(60, 68, seed=index)

    generator = torch.Generator().manual_seed(0)
    kernels = sample_blur_kernels(3, BlurKernelConfig(canvas=9), generator=generator)
    config = DegradationConfig(noise=(0.0, 0.0))
    found = []
    for count, example in enumerate(blurred_examples(photographs(), kernels, config, generator=generator)):
        assert len(asked) == count + 1
        found.append(example)
        assert example.name == str(count)
        assert example.blurred.shape == example.sharp.shape == (1, 3, 52, 60)
        assert torch.equal(example.kernel[0], kernels[count])
        inner = blur(example.sharp, example.kernel)
        torch.testing.assert_close(inner, example.blurred[..., 4:-4, 4:-4], rtol=0, atol=1e-5)
    assert len(found) == 3


def test_there_must_be_as_many_kernels_as_photographs() -> None:
    generator = torch.Generator().manual_seed(0)
    kernels = sample_blur_kernels(2, BlurKernelConfig(canvas=5), generator=generator)
    photographs = [("only", scene(32, 32))]
    with pytest.raises(ValueError, match="longer than"):
        list(blurred_examples(photographs, kernels, DegradationConfig(), generator=generator))
