"""The folder of one evaluation: its settings, and a record of every finished image."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asnet.errors import InputError
from asnet.imaging import write_atomically

#: The file that identifies the run, and the folder of records.
RUN = "run.json"
RECORDS = "records"


@dataclass(frozen=True)
class Record:
    """Record of one image.

    Parameters
    ----------
    scores : dict of str to float
        The benchmark's measures.
    scale : int, optional
        Factor by which the blurred image was downscaled, if it was deblurred here.
    """

    scores: dict[str, float]
    scale: int | None = None


class RunFolder:
    """Opens the folder of a new or an interrupted evaluation.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    identity : mapping
        Everything that all scores depend on, as JSON values. A folder has scores of only one identity.
    files : mapping of str to str
        Fingerprint of the files that each image's scores depend on.
    measures : collection of str
        Keys of the scores that every record has.

    Raises
    ------
    InputError
        If the folder holds a run of another identity, or other files and no run.
    ImageFileError
        If it cannot be written.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], files: Mapping[str, str], measures: Collection[str]
    ) -> None:
        self.folder = folder
        self._records = folder / RECORDS
        self._files = files
        self._measures = measures
        path = folder / RUN
        if path.exists():
            _check_same(folder, _read_json(path), dict(identity))
        elif folder.is_file():
            raise InputError(f"the output {folder} must be a folder, but it is a file")
        elif folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"the output folder {folder} holds other files; give a new one")
        try:
            self._records.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {self._records}: {error.strerror}") from None
        if not path.exists():
            write_json(path, identity)

    def read(self, name: str) -> Record | None:
        """Return the record of an image, or None if there is none yet.

        Raises
        ------
        InputError
            If the record is damaged or of other files.
        """
        path = self._path(name)
        if not path.exists():
            return None
        try:
            content = _read_json(path)
            scores = {key: float(content["scores"][key]) for key in self._measures}
            scale, files = content["scale"], content["files"]
        except (InputError, KeyError, TypeError, ValueError):
            raise InputError(f"the record {path} is damaged; delete it to have it made again") from None
        if files != self._files[name]:
            raise InputError(
                f"the record {path} is of other files than those of {name} now; delete it to have it made "
                "again, or give a new output folder"
            )
        return Record(scores, scale)

    def write(self, name: str, record: Record) -> None:
        """Write the record of an image atomically.

        Raises
        ------
        ImageFileError
            If it cannot be written.
        """
        write_json(
            self._path(name),
            {"scores": record.scores, "scale": record.scale, "files": self._files[name]},
        )

    def _path(self, name: str) -> Path:
        return self._records / f"{name}.json"


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; infinite numbers become "inf"."""
    text = json.dumps(_representable(content), indent=2, allow_nan=False, ensure_ascii=False)
    with write_atomically(path) as file:
        file.write(f"{text}\n".encode())


def _representable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _representable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_representable(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path} is damaged; give a new output folder") from None


def _check_same(folder: Path, known: Any, identity: dict[str, Any]) -> None:
    known = known if isinstance(known, dict) else {}
    differences = [
        f"{key} {_shown(known.get(key))} instead of {_shown(identity.get(key))}"
        for key in dict.fromkeys((*identity, *known))
        if known.get(key) != identity.get(key)
    ]
    if differences:
        raise InputError(
            f"the output folder {folder} holds another evaluation ({', '.join(differences)}); "
            "give a new folder or the same options"
        )


def _shown(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64:
        return f"{value[:12]}..."
    return "none" if value is None else str(value)
