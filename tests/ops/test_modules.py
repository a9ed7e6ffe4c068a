"""The operators as layers: what a torch user expects of a module."""

import copy

import pytest
import torch
from torch import nn

from asnet.errors import InputError
from asnet.ops import CrossCorrelation2d, GuidedConv2d, cross_correlation, guided_conv2d

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("boundary", ["zero", "circular"])
def test_the_correlation_layer_is_the_function_and_has_no_parameters(boundary: str) -> None:
    x = torch.randn(2, 3, 12, 9)
    layer = CrossCorrelation2d((3, 2), boundary=boundary, method="direct")
    assert torch.equal(layer(x), cross_correlation(x, (3, 2), boundary=boundary, method="direct"))
    assert layer.state_dict() == {}
    assert repr(layer) == f"CrossCorrelation2d(max_lag=(3, 2), boundary={boundary!r}, method='direct')"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["relu", None])
def test_the_guided_layer_is_the_function(bias: bool, activation: str | None) -> None:
    torch.manual_seed(0)
    layer = GuidedConv2d(3, 4, (3, 5), stride=2, padding=(1, 2), bias=bias, activation=activation)
    x, multiplier, shift = torch.randn(2, 3, 12, 9), torch.randn(2, 4), torch.randn(2, 4)
    expected = guided_conv2d(
        x, layer.weight, layer.bias, multiplier, shift, stride=2, padding=(1, 2), activation=activation
    )
    assert torch.equal(layer(x, multiplier, shift), expected)
    layer(x, multiplier, shift).sum().backward()
    assert layer.weight.grad is not None


def test_without_guidance_the_guided_layer_is_a_convolution_with_its_state_dict() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 4, 3, padding=1)
    layer = GuidedConv2d(3, 4, 3, padding=1, activation=None)
    layer.load_state_dict(plain.state_dict())
    assert list(layer.state_dict()) == ["weight", "bias"]
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(layer(x), plain(x))
    torch.testing.assert_close(copy.deepcopy(layer)(x), plain(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_layers_follow_their_dtype(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = GuidedConv2d(3, 4, 3, padding=1, dtype=dtype)
    assert {parameter.dtype for parameter in layer.parameters()} == {dtype}
    x, guide = torch.randn(2, 3, 12, 9), torch.randn(2, 4)
    result = layer(x.to(dtype), guide.to(dtype), guide.to(dtype))
    assert result.dtype == dtype
    exact = layer.double()(x.to(dtype).double(), guide.to(dtype).double(), guide.to(dtype).double())
    assert (result - exact).abs().max() <= 4 * torch.finfo(dtype).eps * exact.abs().max()
    correlation = CrossCorrelation2d(2).to(dtype)(x.to(dtype))
    assert correlation.dtype == dtype
    exact = cross_correlation(x.to(dtype).double(), 2)
    assert (correlation - exact).abs().max() <= 4 * torch.finfo(dtype).eps * exact.abs().max()


def test_layers_can_be_made_on_no_device_and_moved() -> None:
    layer = GuidedConv2d(3, 4, 3, device="meta")
    assert layer.weight.is_meta
    assert layer.to_empty(device="cpu").weight.shape == (4, 3, 3, 3)


def test_unusable_arguments() -> None:
    with pytest.raises(InputError, match="padding must be an integer or a pair of them, got 'same'"):
        GuidedConv2d(3, 4, 3, padding="same")
    with pytest.raises(InputError, match="activation must be \"relu\" or None, got 'gelu'"):
        GuidedConv2d(3, 4, 3, activation="gelu")
    with pytest.raises(InputError, match="max_lag must be one or two integers"):
        CrossCorrelation2d(-1)(torch.zeros(1, 1, 4, 4))
