"""Exceptions that asnet raises for problems that a user can fix."""


class AsnetError(Exception):
    """Base of every error that asnet raises on purpose; its message is one sentence for the user."""


class InputError(AsnetError, ValueError):
    """An argument of a function or an option of a command has an unusable value."""


class ConfigurationError(AsnetError, ValueError):
    """A network or training configuration contradicts itself or names an unknown field."""


class ImageFileError(AsnetError):
    """An image file cannot be read or written."""


class WeightsError(AsnetError):
    """A weights file or checkpoint is missing, damaged, or does not fit the network."""


class DeviceError(AsnetError):
    """The requested device, data type or compiled extension is not available here."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that memory ran out; on CPUs torch raises a plain RuntimeError."""
    # Errors are available before torch is loaded.
    from torch import OutOfMemoryError

    if isinstance(error, MemoryError | OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
