"""Scale-optimised networks (section 3.3): a size classifier and a pair of networks for each class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from asnet.errors import ConfigurationError
from asnet.networks.config import ASNetConfig
from asnet.networks.config.fields import as_mapping, check_known
from asnet.networks.pair import DeblurNetwork
from asnet.networks.size_classifier import SizeClassifier, SizeClassifierConfig

#: Default name of joined networks.
DEFAULT_NAME = "scale_optimised"


@dataclass(frozen=True)
class ScaleOptimisedConfig:
    """A size classifier and its pairs.

    Parameters
    ----------
    classifier : SizeClassifierConfig
        Chooses between the pairs.
    pairs : tuple of ASNetConfig
        One for each class, in their order; the kernel grid of each holds the largest size of its class.
    name : str
        Name of the networks in weights files and messages.

    Examples
    --------
    >>> from asnet.networks import AnalysisConfig
    >>> classifier = SizeClassifierConfig(AnalysisConfig(levels=1), class_sizes=(31, 61))
    >>> ScaleOptimisedConfig(classifier, (ASNetConfig.compact(), ASNetConfig.compact())).name
    'scale_optimised'
    """

    classifier: SizeClassifierConfig
    pairs: tuple[ASNetConfig, ...]
    name: str = DEFAULT_NAME

    def __post_init__(self) -> None:
        sizes = self.classifier.class_sizes
        if len(self.pairs) != len(sizes):
            listed = ", ".join(map(str, sizes))
            raise ConfigurationError(
                f"the size classifier has {len(sizes)} classes (up to {listed} pixels) and needs as many "
                f"pairs, got {len(self.pairs)}"
            )
        for index, (size, pair) in enumerate(zip(sizes, self.pairs, strict=True)):
            grid = pair.synthesis.kernel_size
            if grid < size:
                raise ConfigurationError(
                    f"pair {index + 1} is for kernels of up to {size} pixels and needs a kernel grid of as "
                    f"many, got one of {grid}"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings, as JSON holds them."""
        return {
            "name": self.name,
            "classifier": self.classifier.to_dict(),
            "pairs": [pair.to_dict() for pair in self.pairs],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ScaleOptimisedConfig":
        """Make a configuration from what `to_dict` gave.

        Raises
        ------
        ConfigurationError
            If a field is unknown or its value unusable.
        """
        check_known("the configuration", as_mapping("configuration", values), ("name", "classifier", "pairs"))
        pairs = values.get("pairs")
        if not isinstance(pairs, list):
            raise ConfigurationError(f"pairs must be a list, got {pairs!r}")
        return cls(
            SizeClassifierConfig.from_dict(values.get("classifier", {})),
            tuple(ASNetConfig.from_dict(pair) for pair in pairs),
            str(values.get("name", DEFAULT_NAME)),
        )


class ScaleOptimisedNetworks(nn.Module):
    """A size classifier and a pair of networks for each of its classes.

    Parameters
    ----------
    config : ScaleOptimisedConfig
        All their configurations.

    Examples
    --------
    >>> from asnet.networks import AnalysisConfig
    >>> classifier = SizeClassifier(SizeClassifierConfig(AnalysisConfig(levels=1), class_sizes=(31, 61)))
    >>> pairs = [DeblurNetwork(ASNetConfig.compact()), DeblurNetwork(ASNetConfig.compact())]
    >>> ScaleOptimisedNetworks.join(classifier, pairs).config.classifier.class_sizes
    (31, 61)
    """

    def __init__(self, config: ScaleOptimisedConfig) -> None:
        super().__init__()
        self.config = config
        self.classifier = SizeClassifier(config.classifier)
        self.pairs = nn.ModuleList(DeblurNetwork(pair) for pair in config.pairs)

    @classmethod
    def join(
        cls, classifier: SizeClassifier, pairs: Sequence[DeblurNetwork], *, name: str = DEFAULT_NAME
    ) -> "ScaleOptimisedNetworks":
        """Join existing networks in one module; their weights are shared, not copied.

        Raises
        ------
        ConfigurationError
            If the numbers of pairs and classes differ, or a kernel grid is too small for its class.
        """
        config = ScaleOptimisedConfig(classifier.config, tuple(pair.config for pair in pairs), name)
        with torch.device("meta"):
            networks = cls(config)
        networks.classifier = classifier
        networks.pairs = nn.ModuleList(pairs)
        return networks

    def pair(self, index: int) -> DeblurNetwork:
        """Return the pair of a class."""
        pair = self.pairs[index]
        assert isinstance(pair, DeblurNetwork)
        return pair

    def classify(self, image: Tensor) -> int:
        """Return the class of a single image's blur (1, 3, H, W) or (1, 1, H, W), range [0, 1]."""
        return int(self.classifier(image)[0].argmax())
