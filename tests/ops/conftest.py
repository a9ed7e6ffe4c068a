"""The devices that operators are tested on."""

from collections.abc import Iterator

import pytest
import torch

from asnet.ops._extension import has_kernel


@pytest.fixture
def cuda() -> Iterator[torch.device]:
    """The first CUDA device, float32 products in float32; skips where there is none, or no kernels for it."""
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    if not has_kernel("guided_modulation", "CUDA"):
        pytest.skip("asnet was built without its CUDA library")
    settings = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [setting.allow_tf32 for setting in settings]
    # TF32 would multiply torch's own error by a thousand, and with it the error that tests allow.
    for setting in settings:
        setting.allow_tf32 = False
    yield torch.device("cuda", 0)
    for setting, allowed in zip(settings, before, strict=True):
        setting.allow_tf32 = allowed


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU and, in a second run of the test, the first CUDA device."""
    return request.getfixturevalue("cuda") if request.param == "cuda" else torch.device("cpu")
