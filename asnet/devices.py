"""Devices by their names."""

import torch

from asnet.errors import DeviceError


def resolve_device(device: str | torch.device, *, default_index: int | None = None) -> torch.device:
    """Return the device of a name, checked to be available.

    Parameters
    ----------
    device : str or torch.device
        "auto" (a CUDA device if there is one, else the CPU), "cpu", "cuda" or "cuda:N".
    default_index : int, optional
        Index of the CUDA device if the name has none; by default torch's current device.

    Raises
    ------
    DeviceError
        If the name is not a device, or the device is not available.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise DeviceError(f"unknown device {device!r}, expected auto, cpu, cuda or cuda:N") from None
    if resolved.type not in ("cpu", "cuda"):
        raise DeviceError(f"asnet computes on cpu and cuda devices, not on {str(resolved)!r}")
    if resolved.type == "cuda":
        if str(resolved) == "cuda" and default_index is not None:
            resolved = torch.device("cuda", default_index)
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (resolved.index or 0) >= count:
            raise DeviceError(
                f"the device {str(resolved)!r} is not available: torch finds {count} CUDA devices"
            )
    return resolved
