"""Tables of recipes: read from TOML, assigned on the command line, merged."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asnet.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


#: Recipes that come with asnet.
RECIPES = Path(__file__).resolve().parents[1] / "recipes"


def read_recipe(name: str) -> dict[str, Any]:
    """Read a recipe: one that comes with asnet, by its name, or a TOML file.

    Raises
    ------
    ConfigurationError
        If there is no such recipe or file, or the file is not TOML.

    Examples
    --------
    >>> read_recipe("compact")["model"]
    'compact'
    """
    shipped = sorted(path.stem for path in RECIPES.glob("*.toml"))
    if name in shipped:
        return read_toml(RECIPES / f"{name}.toml")
    if not Path(name).is_file():
        raise ConfigurationError(
            f"unknown recipe {name!r}: expected a TOML file or one of {', '.join(shipped)}"
        )
    return read_toml(Path(name))


def merged(*tables: Mapping[str, Any]) -> dict[str, Any]:
    """Merge tables recursively; later ones take precedence."""
    result: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            if isinstance(value, Mapping):
                inner = result.get(key)
                value = merged(inner if isinstance(inner, Mapping) else {}, value)
            result[key] = value
    return result


def parse_assignment(text: str) -> dict[str, Any]:
    """Return "a.b=VALUE" as {"a": {"b": VALUE}}; VALUE is a TOML value, or otherwise plain text.

    Raises
    ------
    ConfigurationError
        If there is no name or no "=".
    """
    name, sign, value = text.partition("=")
    keys = [key.strip() for key in name.split(".")]
    if not sign or not all(keys):
        raise ConfigurationError(f"expected FIELD=VALUE, got {text!r}")
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for key in reversed(keys):
        parsed = {key: parsed}
    return dict(parsed)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    ConfigurationError
        If the file is missing or is not TOML.
    """
    try:
        with path.open("rb") as file:
            table: dict[str, Any] = tomllib.load(file)
            return table
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not a TOML file: {error}") from None
