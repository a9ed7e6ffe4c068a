"""Removes motion blur from photographs with an analysis-synthesis pair of networks.

Importing asnet loads neither torch nor the compiled operators; the first use of one of its names does.

Examples
--------
>>> import asnet
>>> networks = asnet.load("compact")
>>> type(networks).__name__
'DeblurNetwork'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asnet import data, deblurring, errors, imaging, networks, ops
    from asnet.deblurring.deblurrer import Deblurred, Deblurrer
    from asnet.pretrained import load

__version__ = "0.1.0"

__all__ = [
    "Deblurred",
    "Deblurrer",
    "__version__",
    "data",
    "deblurring",
    "errors",
    "imaging",
    "load",
    "networks",
    "ops",
]

_MODULES = ("data", "deblurring", "errors", "imaging", "networks", "ops")
_MODULE_OF = {
    "Deblurred": "deblurring.deblurrer",
    "Deblurrer": "deblurring.deblurrer",
    "load": "pretrained",
}


def __getattr__(name: str) -> Any:
    # Importing a lower layer such as asnet.ops runs this file first: it must not pull in those above.
    if name in _MODULES:
        return import_module(f"asnet.{name}")
    if name in _MODULE_OF:
        return getattr(import_module(f"asnet.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'asnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
