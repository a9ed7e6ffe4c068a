"""The pair of networks."""

import pytest
import torch
from small_networks import small_pair

from asnet.networks import AnalysisNetwork, DeblurNetwork, IteratedAnalysisNetwork, preset


@pytest.mark.parametrize("name", ["paper", "official", "compact"])
def test_the_pair_passes_its_kernel_on(name: str) -> None:
    torch.manual_seed(0)
    network = DeblurNetwork(small_pair(name)).eval()
    blurred = torch.rand(2, 3, 37, 42)
    with torch.no_grad():
        result = network(blurred)
        assert result.image.shape == blurred.shape
        assert torch.equal(result.kernel, network.analysis(blurred))
        torch.testing.assert_close(result.image, network.synthesis(blurred, result.kernel))


def test_a_known_kernel_is_used() -> None:
    torch.manual_seed(0)
    network = DeblurNetwork(small_pair("compact")).eval()
    blurred, kernel = torch.rand(1, 3, 24, 24), torch.zeros(1, 7, 7)
    kernel[0, 3, 3] = 1
    with torch.no_grad():
        result = network(blurred, kernel)
        assert result.kernel is kernel
        torch.testing.assert_close(result.image, network.synthesis(blurred, kernel))


@pytest.mark.parametrize("name", ["paper", "official"])
def test_the_image_loss_reaches_the_analysis_network(name: str) -> None:
    torch.manual_seed(0)
    network = DeblurNetwork(small_pair(name))
    network(torch.rand(1, 3, 40, 40)).image.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert max(float(p.grad.abs().max()) for p in network.analysis.parameters()) > 0


@pytest.mark.parametrize(
    ("name", "kind", "analysis", "synthesis"),
    [
        ("paper", AnalysisNetwork, 1_784_121, 14_975_235),
        ("official", AnalysisNetwork, 1_906_695, 16_163_459),
    ],
)
def test_sizes_of_the_presets(name: str, kind: type, analysis: int, synthesis: int) -> None:
    with torch.device("meta"):
        network = DeblurNetwork(preset(name))
    assert isinstance(network.analysis, kind)
    assert sum(p.numel() for p in network.analysis.parameters()) == analysis
    assert sum(p.numel() for p in network.synthesis.parameters()) == synthesis


def test_compact_is_small_enough_to_ship() -> None:
    with torch.device("meta"):
        network = DeblurNetwork(preset("compact"))
    assert isinstance(network.analysis, IteratedAnalysisNetwork)
    assert sum(p.numel() for p in network.parameters()) < 2_000_000
