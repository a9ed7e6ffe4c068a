from pathlib import Path
from typing import Any, Literal

import pytest

from asnet.errors import ConfigurationError
from asnet.fields import convert
from asnet.training.recipe_tables import merged, parse_assignment, read_recipe, read_toml


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, "3", 3),
        (float, 3, 3.0),
        (float, "1e-4", 1e-4),
        (bool, "true", True),
        (str, "3", "3"),
        (int | None, "none", None),
        (int | None, "5", 5),
        (Literal["l1", "l2"], "l2", "l2"),
        (tuple[float, float], "0,0.02", (0.0, 0.02)),
        (tuple[float, float], [0, 0.02], (0.0, 0.02)),
        (tuple[int, ...], [16, 32, 64], (16, 32, 64)),
        (tuple[float, float] | None, "none", None),
    ],
)
def test_values_become_what_the_annotation_says(annotation: Any, value: Any, expected: Any) -> None:
    converted = convert(annotation, value, "option")
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value", "sentence"),
    [
        (int, "1.5", "crop must be a whole number, got '1.5'"),
        (int, 1.0, "crop must be a whole number, got 1.0"),
        (int, True, "crop must be a whole number, got True"),
        (float, "fast", "crop must be a number, got 'fast'"),
        (Literal["l1", "l2"], "l3", "crop must be one of l1, l2, got 'l3'"),
        (tuple[float, float], "1", "crop must be 2 values, each a number, got '1'"),
        (int | None, "x", "crop must be a whole number or none, got 'x'"),
        (bool, 1.5, "crop must be true or false, got 1.5"),
        (str, 3, "crop must be text, got 3"),
    ],
)
def test_a_value_that_does_not_fit_is_named(annotation: Any, value: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        convert(annotation, value, "crop")
    assert str(caught.value) == sentence


def test_later_tables_win_field_by_field() -> None:
    assert merged({"a": 1, "t": {"x": 1, "y": 2}}, {"t": {"y": 3}}, {"a": 4}) == {
        "a": 4,
        "t": {"x": 1, "y": 3},
    }


def test_assignments_take_toml_values_or_plain_text() -> None:
    assert parse_assignment("synthesis.channels=[16, 32]") == {"synthesis": {"channels": [16, 32]}}
    assert parse_assignment("analysis.kind=single_pass") == {"analysis": {"kind": "single_pass"}}
    with pytest.raises(ConfigurationError, match="expected FIELD=VALUE, got 'channels'"):
        parse_assignment("channels")


def test_a_recipe_is_a_name_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_recipe("scale-31")["network"]["name"] == "scale-31"
    Path("own.toml").write_text("crop = 7")
    assert read_recipe("own.toml") == read_recipe(str(tmp_path / "own.toml")) == {"crop": 7}
    for name in ("", "own", "absent.toml", ".", "../recipes/paper"):
        with pytest.raises(
            ConfigurationError, match=r"unknown recipe .*expected a TOML file or one of ablation, compact"
        ):
            read_recipe(name)


def test_unreadable_recipes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read .*missing\.toml: No such file"):
        read_toml(tmp_path / "missing.toml")
    (tmp_path / "broken.toml").write_text("crop = ")
    with pytest.raises(ConfigurationError, match=r"broken\.toml is not a TOML file"):
        read_toml(tmp_path / "broken.toml")
