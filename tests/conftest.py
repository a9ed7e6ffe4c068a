"""Fixtures of all tests."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asnet.networks import ASNetConfig, DeblurNetwork, IteratedAnalysisConfig, save_weights


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Every torch.empty is filled with NaN: an element that a kernel leaves out fails the comparison."""
    # Operations of torch without a deterministic algorithm on CUDA only warn.
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(4).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of an untrained pair like `compact` with few channels, on a kernel grid of 7 pixels."""
    synthesis = replace(
        ASNetConfig.compact().synthesis,
        kernel_size=7,
        channels=(4, 6, 8),
        convolutions_per_block=1,
        guide_hidden=5,
    )
    analysis = IteratedAnalysisConfig(kernel_size=7, refiner_channels=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DeblurNetwork(ASNetConfig(analysis, synthesis, "small"))
        # Initialised to zero, it would leave only the Wiener deconvolution.
        torch.nn.init.normal_(network.synthesis.output.weight, std=0.05)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, network, training_data="nothing", revision="test")
    return path
