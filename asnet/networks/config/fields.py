"""Fields of configurations: checks of their values, and their conversion to and from JSON."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any, TypeVar, get_args

from asnet.errors import ConfigurationError
from asnet.fields import convert, field_types

Configuration = TypeVar("Configuration")

#: Limits for values from files: of the fields of this name, of all others, and of the length of a list.
_LARGEST = {"finest_rounds": 64, "conjugate_gradient_steps": 256, "levels": 16}
_LARGEST_NUMBER = 4096
_LONGEST_LIST = 16


def check_choice(name: str, value: object, choices: object) -> None:
    """Raise `ConfigurationError` unless the value is one of a `Literal`'s choices."""
    if value not in get_args(choices):
        expected = ", ".join(repr(choice) for choice in get_args(choices))
        raise ConfigurationError(f"{name} must be one of {expected}, got {value!r}")


def check_positive(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless the value is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} must be a positive integer, got {value!r}")


def check_odd(name: str, value: object, minimum: int = 1) -> None:
    """Raise `ConfigurationError` unless the value is an odd integer of at least `minimum`."""
    check_positive(name, value)
    if not isinstance(value, int) or value % 2 == 0 or value < minimum:
        raise ConfigurationError(f"{name} must be odd and at least {minimum}, got {value!r}")


def check_widths(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless the value is a tuple of one or more integers of at least 1."""
    if not isinstance(value, tuple) or not value:
        raise ConfigurationError(f"{name} must hold at least one positive integer, got {value!r}")
    for width in value:
        check_positive(f"every value of {name}", width)


def check_known(section: str, values: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise `ConfigurationError` if a table holds a field that is not among the known ones."""
    unknown = set(values) - set(known)
    if unknown:
        raise ConfigurationError(f"unknown field {min(unknown)!r} in {section}")


def as_mapping(section: str, values: object) -> Mapping[str, Any]:
    """Return the values of a section if they are a table; else raise `ConfigurationError`."""
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{section} must be a table of fields, got {values!r}")
    return values


def plain_fields(config: Any) -> dict[str, Any]:
    """Return the fields of a dataclass of plain values as JSON values, with tuples as lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()
    }


def fields_from(section: str, kind: type[Configuration], values: Mapping[str, Any]) -> Configuration:
    """Build a dataclass from the result of `plain_fields`; missing fields have their defaults.

    Parameters
    ----------
    section : str
        Name of the table in messages.
    kind : type
        The dataclass.
    values : mapping
        Values of TOML or JSON.

    Raises
    ------
    ConfigurationError
        If a field is unknown or its value unusable.
    """
    annotations = field_types(kind)
    check_known(section, values, annotations)
    for name, value in values.items():
        _check_size(f"{section}.{name}", value, _LARGEST.get(name, _LARGEST_NUMBER))
    arguments = {
        name: convert(annotations[name], value, f"{section}.{name}", text=False)
        for name, value in values.items()
    }
    return kind(**arguments)


def _check_size(name: str, value: Any, largest: int) -> None:
    """Raise `ConfigurationError` if the network would be too large to build or run."""
    entries = value if isinstance(value, list | tuple) else (value,)
    if len(entries) > _LONGEST_LIST:
        raise ConfigurationError(f"{name} must hold at most {_LONGEST_LIST} values, got {len(entries)}")
    for entry in entries:
        # NaN fails every comparison.
        if isinstance(entry, int | float) and not -largest <= entry <= largest:
            raise ConfigurationError(f"{name} must be at most {largest}, got {entry!r}")
