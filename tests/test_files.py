"""Atomic writes: complete or absent, with ordinary permissions."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asnet.errors import ImageFileError, WeightsError
from asnet.files import atomic_write


def write(path: Path, text: str = "new") -> None:
    with atomic_write(path, WeightsError) as partial:
        partial.write_text(text)


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    """Sets the umask until the test ends."""
    before = os.umask(0o022)

    def set_umask(mask: int) -> None:
        os.umask(mask)

    yield set_umask
    os.umask(before)


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    with atomic_write(target, WeightsError) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_a_block_that_raises_changes_nothing(
    tmp_path: Path, existing: bool, failure: type[BaseException]
) -> None:
    target = tmp_path / "target"
    if existing:
        target.write_text("old")

    def interrupted() -> None:
        with atomic_write(target, WeightsError) as partial:
            partial.write_text("half of the new one")
            raise failure

    with pytest.raises(failure):
        interrupted()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == (
        {"target": "old"} if existing else {}
    )


@pytest.mark.parametrize("error", [WeightsError, ImageFileError])
def test_a_full_device_is_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[WeightsError | ImageFileError]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with (
        pytest.raises(error, match=r"^cannot write .*/target: No space left on device$"),
        atomic_write(tmp_path / "target", error),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_places_where_no_file_can_be_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"^cannot write .*/absent/target: No such file or directory$"):
        write(tmp_path / "absent" / "target")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsError, match=r"^cannot write .*/folder: it is a folder$"):
        write(tmp_path / "folder")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_permissions_are_those_of_any_new_file(
    tmp_path: Path, umask: Callable[[int], None], mask: int
) -> None:
    umask(mask)
    write(tmp_path / "target")
    (tmp_path / "plain").touch()
    assert (tmp_path / "target").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("letter", ["a", "\N{CJK UNIFIED IDEOGRAPH-5199}", "\N{CAMERA}"])
def test_names_may_be_as_long_as_the_file_system_allows(tmp_path: Path, letter: str) -> None:
    target = tmp_path / (letter * (255 // len(letter.encode())))
    write(target)
    assert target.read_text() == "new"
