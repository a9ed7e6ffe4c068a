"""The pair of networks."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from small_networks import small_pair

import asnet
from asnet.networks import AnalysisConfig, AnalysisNetwork, DeblurNetwork, IteratedAnalysisNetwork, preset
from asnet.networks import analysis as analysis_module
from asnet.networks import synthesis as synthesis_module
from asnet.ops import empty_maps, reused_memory


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
@torch.inference_mode()
def test_reused_memory_leaves_no_trace_in_the_results(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = small_pair(name)
    assert isinstance(config.analysis, AnalysisConfig)
    # Wide enough for maps that do not come from the ordinary allocator.
    network = DeblurNetwork(
        replace(
            config,
            analysis=replace(config.analysis, feature_channels=40),
            synthesis=replace(config.synthesis, channels=(40, 40)),
        )
    ).eval()
    blurred = torch.rand(1, 3, 240, 250)
    with reused_memory(blurred):
        empty_maps(blurred, (25_000_000,)).fill_(torch.nan)
        result = network(blurred)
    for module in (analysis_module, synthesis_module):
        monkeypatch.setattr(module, "reused_memory", lambda _: nullcontext())
    expected = network(blurred)
    assert torch.equal(result.kernel, expected.kernel)
    assert torch.equal(result.image, expected.image)


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
    assert sum(p.numel() for p in network.parameters()) < 3_000_000  # 12 MB in float32


@pytest.mark.parametrize(("side", "counts_as_known"), [(3, True), (9, False)])
@torch.no_grad()
def test_small_estimates_count_as_known_kernels(
    side: int, counts_as_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network, blurred, kernel = asnet.load("compact"), torch.rand(1, 3, 24, 24), torch.ones(1, side, side)
    kernel /= kernel.sum()
    known = network(blurred, kernel).image
    monkeypatch.setattr(network.analysis, "forward", lambda image, restore: kernel)
    assert torch.equal(network(blurred).image, known) == counts_as_known
