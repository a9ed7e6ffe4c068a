"""Removes motion blur from photographs with an analysis-synthesis pair of networks."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asnet.deblurrer import Deblurred, Deblurrer

__version__ = "0.1.0"

__all__ = ["Deblurred", "Deblurrer", "__version__"]


def __getattr__(name: str) -> Any:
    # Importing a lower layer such as asnet.ops runs this file first: it must not pull in those above.
    if name in ("Deblurred", "Deblurrer"):
        from asnet import deblurrer

        return getattr(deblurrer, name)
    raise AttributeError(f"module 'asnet' has no attribute {name!r}")
