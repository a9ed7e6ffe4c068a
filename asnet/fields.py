"""Fields of dataclasses from TOML, JSON and command-line text, checked against their annotations."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from asnet.errors import ConfigurationError

Configuration = TypeVar("Configuration")

#: Spelling of "no value" for optional fields: TOML has no null.
NONE_WORD = "none"


def field_types(configuration: type) -> dict[str, Any]:
    """Return the resolved annotation of every field of a dataclass, in order."""
    hints = typing.get_type_hints(configuration)
    return {field.name: hints[field.name] for field in dataclasses.fields(configuration)}


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def describe(annotation: Any) -> str:
    """Describe the values that an annotation allows: ``int | None`` -> "a whole number or none"."""
    if _is_union(annotation):
        return " or ".join(describe(member) for member in typing.get_args(annotation))
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(annotation))
    if origin is tuple:
        members = typing.get_args(annotation)
        if members[-1] is Ellipsis:
            return f"a list, each {describe(members[0])}"
        return f"{len(members)} values, each {describe(members[0])}"
    words = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        types.NoneType: NONE_WORD,
    }
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _converted(annotation: Any, value: Any, text: bool) -> Any:
    """Convert a value to the annotation; ValueError if it does not fit."""
    if _is_union(annotation):
        for member in sorted(typing.get_args(annotation), key=lambda member: member is not types.NoneType):
            try:
                return _converted(member, value, text)
            except ValueError:
                continue
        raise ValueError
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        for choice in typing.get_args(annotation):
            if value == choice or (text and value == str(choice)):
                return choice
        raise ValueError
    if origin is tuple:
        items = value.split(",") if text and isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise ValueError
        members = typing.get_args(annotation)
        if members[-1] is Ellipsis:
            members = (members[0],) * len(items)
        if len(members) != len(items):
            raise ValueError
        return tuple(_converted(member, item, text) for member, item in zip(members, items, strict=True))
    if annotation is types.NoneType:
        if value is None or value == NONE_WORD:
            return None
        raise ValueError
    if annotation is bool:
        words = {True: True, False: False, "true": True, "false": False}
        if isinstance(value, (bool, str) if text else bool) and value in words:
            return words[value]
        raise ValueError
    if annotation in (int, float):
        if isinstance(value, bool) or not isinstance(value, (int, float, str) if text else (int, float)):
            raise ValueError
        # int(1.5) would silently truncate; int("1.5") raises.
        if annotation is int and isinstance(value, float):
            raise ValueError
        return annotation(value)
    if annotation is str and isinstance(value, str):
        return value
    raise ValueError


def convert(annotation: Any, value: Any, name: str, *, text: bool = True) -> Any:
    """Convert `value` to the type of the annotation.

    Parameters
    ----------
    annotation : type
        int, float, bool, str, Literal, tuple and unions of these.
    value : object
        A value of TOML or JSON, or text: "3", "0.5,1", "true", "none".
    name : str
        Its name in messages.
    text : bool
        Whether text may be parsed as a number, a truth value or a list.

    Raises
    ------
    ConfigurationError
        If the value does not fit; the message names it and says what was expected.

    Examples
    --------
    >>> convert(tuple[float, ...], "0.5,1", "noise")
    (0.5, 1.0)
    """
    try:
        return _converted(annotation, value, text)
    except ValueError:
        raise ConfigurationError(f"{name} must be {describe(annotation)}, got {value!r}") from None


def replaced(configuration: Configuration, table: Mapping[str, Any], name: str) -> Configuration:
    """Return the dataclass instance with the fields of `table` replaced.

    Raises
    ------
    ConfigurationError
        If a field does not exist (the message lists those that do) or its value does not fit.
    """
    annotations = field_types(type(configuration))
    for key in table:
        if key not in annotations:
            raise ConfigurationError(f"{name}.{key} is unknown; {name} has {', '.join(annotations)}")
    changes = {key: convert(annotations[key], value, f"{name}.{key}") for key, value in table.items()}
    return dataclasses.replace(configuration, **changes)  # type: ignore[type-var]
