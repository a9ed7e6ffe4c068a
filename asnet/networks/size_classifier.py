"""The size classifier (section 3.3): blurred image to the class of its blur kernel's size."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from asnet.errors import ConfigurationError
from asnet.networks.analysis import INITIAL_KERNEL_BIAS, AnalysisNetwork
from asnet.networks.config import AnalysisConfig, preset
from asnet.networks.config.fields import as_mapping, check_known, check_odd, fields_from, plain_fields
from asnet.networks.layers import fill_normal, initialise_he

#: Largest kernel size in pixels of each of the paper's classes, [0, 31], (31, 61] and (61, 85].
CLASS_SIZES = (31, 61, 85)


@dataclass(frozen=True)
class SizeClassifierConfig:
    """The size classifier: an analysis network of a single scale and a fully connected layer.

    Parameters
    ----------
    analysis : AnalysisConfig
        The analysis network, with one level. Its kernel grid, which bounds its lags, may differ from the
        largest class.
    class_sizes : tuple of int
        Largest kernel size of each class in pixels, odd, ascending: class i holds the sizes above
        ``class_sizes[i - 1]`` and up to ``class_sizes[i]``.
    name : str
        Name of the configuration in weights files and messages.

    Examples
    --------
    >>> SizeClassifierConfig().class_sizes
    (31, 61, 85)
    """

    analysis: AnalysisConfig = field(default_factory=lambda: AnalysisConfig(levels=1))
    class_sizes: tuple[int, ...] = CLASS_SIZES
    name: str = "custom"

    def __post_init__(self) -> None:
        if self.analysis.levels != 1:
            raise ConfigurationError(
                f"a size classifier has a single scale: analysis.levels must be 1, got {self.analysis.levels}"
            )
        if not isinstance(self.class_sizes, tuple) or len(self.class_sizes) < 2:
            raise ConfigurationError(f"class_sizes must hold at least two sizes, got {self.class_sizes!r}")
        for size in self.class_sizes:
            check_odd("every value of class_sizes", size)
        if list(self.class_sizes) != sorted(set(self.class_sizes)):
            raise ConfigurationError(f"class_sizes must ascend, got {self.class_sizes}")

    @classmethod
    def preset(cls, name: str) -> "SizeClassifierConfig":
        """Return the classifier for pairs of a preset: paper, official or compact.

        The first two use the finest level of their analysis network. `compact`, whose own analysis is of
        another kind, uses a small network of the paper's kind.

        Raises
        ------
        ConfigurationError
            If there is no such preset.
        """
        if name == "compact":
            analysis = AnalysisConfig(
                levels=1,
                feature_channels=16,
                feature_layers=2,
                feature_size=5,
                correlation_channels=8,
                reduced_channels=16,
                head_channels=(16, 8),
                normalise_features=True,
            )
        else:
            single_pass = preset(name).analysis
            assert isinstance(single_pass, AnalysisConfig)
            analysis = replace(single_pass, levels=1)
        return cls(analysis, name=name)

    def classes_of(self, sizes: Tensor) -> Tensor:
        """Return the class of kernel sizes in pixels, (N,) int64; the last class for larger sizes."""
        bounds = torch.tensor(self.class_sizes[:-1], device=sizes.device)
        return torch.bucketize(sizes, bounds)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings, as JSON holds them."""
        return {
            "name": self.name,
            "class_sizes": list(self.class_sizes),
            "analysis": plain_fields(self.analysis),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SizeClassifierConfig":
        """Make a configuration from what `to_dict` gave; fields left out take their defaults.

        Raises
        ------
        ConfigurationError
            If a field is unknown or its value unusable.
        """
        known = ("name", "class_sizes", "analysis")
        check_known("the size classifier", as_mapping("the size classifier", values), known)
        sizes = values.get("class_sizes", CLASS_SIZES)
        return cls(
            fields_from(
                "analysis",
                AnalysisConfig,
                {"levels": 1, **as_mapping("analysis", values.get("analysis", {}))},
            ),
            tuple(sizes) if isinstance(sizes, list) else sizes,
            str(values.get("name", "custom")),
        )


class SizeClassifier(nn.Module):
    """Classifies an image by the size of its blur kernel.

    Parameters
    ----------
    config : SizeClassifierConfig
        Topology and classes.

    Examples
    --------
    >>> config = SizeClassifierConfig(AnalysisConfig(levels=1, kernel_size=31), class_sizes=(15, 31))
    >>> with torch.no_grad():
    ...     SizeClassifier(config)(torch.rand(2, 3, 64, 64)).shape  # logits
    torch.Size([2, 2])
    """

    def __init__(self, config: SizeClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = AnalysisNetwork(config.analysis)
        self.output = nn.Linear(config.analysis.kernel_size**2, len(config.class_sizes))
        nn.init.zeros_(self.output.bias)
        fill_normal(self.output.weight, 1 / config.analysis.kernel_size)
        # An analysis network initially outputs a uniform kernel for any image. A classifier initialised so
        # can hardly distinguish images and does not learn for a long time.
        last = self.analysis.head[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        initialise_he(last)
        nn.init.constant_(last.bias, INITIAL_KERNEL_BIAS)

    def forward(self, image: Tensor) -> Tensor:
        """Classify images.

        Parameters
        ----------
        image : Tensor
            Blurred images: RGB (N, 3, H, W) or luma (N, 1, H, W), range [0, 1].

        Returns
        -------
        Tensor
            (N, classes) logits, float32 (float64 for a float64 network).
        """
        # Kernels sum to 1: on a grid of side m, a uniform one has weights of 1 / m^2 and a norm of 1 / m.
        kernel = self.analysis(image) * self.config.analysis.kernel_size
        logits: Tensor = self.output(kernel.flatten(1))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))
