"""Models that come with asnet, and weights files, by name."""

from pathlib import Path

import torch

from asnet.devices import resolve_device
from asnet.errors import WeightsError
from asnet.networks import DeblurNetwork, ScaleOptimisedNetworks, SizeClassifier, load_networks

#: Weights that come with the package: NAME.safetensors.
MODELS_FOLDER = Path(__file__).resolve().parent / "models"


def load(
    model: str | Path = "compact", *, device: str | torch.device = "cpu"
) -> DeblurNetwork | ScaleOptimisedNetworks | SizeClassifier:
    """Load networks as torch modules.

    These modules take tensors; `asnet.Deblurrer.from_pretrained` wraps them for photographs of any size and
    type.

    Parameters
    ----------
    model : str or Path
        "compact", or a weights file that `asnet train`, `import-weights` or `bundle` wrote.
    device : str or torch.device
        "auto", "cpu", "cuda" or "cuda:N".

    Returns
    -------
    DeblurNetwork, ScaleOptimisedNetworks or SizeClassifier
        What the file holds, in evaluation mode, with float32 parameters.

    Raises
    ------
    WeightsError
        If there is no such model or file, or the file is damaged or does not fit.
    DeviceError
        If the device is not available.

    Examples
    --------
    >>> import torch
    >>> networks = load("compact")
    >>> with torch.no_grad():
    ...     result = networks(torch.rand(1, 3, 48, 64), torch.ones(1, 3, 3) / 9)
    >>> result.image.shape, result.kernel.shape
    (torch.Size([1, 3, 48, 64]), torch.Size([1, 3, 3]))
    """
    return load_networks(find_weights(model), device=resolve_device(device))


def find_weights(model: str | Path) -> Path:
    """Return the weights file of a model: one that comes with asnet by its name, or a path.

    Raises
    ------
    WeightsError
        If it is neither.

    Examples
    --------
    >>> find_weights("compact").name
    'compact.safetensors'
    """
    names = sorted(path.stem for path in MODELS_FOLDER.glob("*.safetensors"))
    if str(model) in names:
        return MODELS_FOLDER / f"{model}.safetensors"
    if Path(model).is_file():
        return Path(model)
    shipped = ", ".join(names) or "none in this installation"
    raise WeightsError(
        f"unknown model {str(model)!r}: neither a weights file nor a shipped model ({shipped})"
    )
