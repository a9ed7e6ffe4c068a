"""PEP 517 build backend: setuptools, compiling against the torch that is already installed.

pip runs the hooks of an isolated build with the interpreter of the environment it installs into and only
hides that environment's packages, so ``sysconfig`` still says where they are. Front ends that create a
separate environment for the build (``uv``, ``python -m build``) leave its name in ``VIRTUAL_ENV`` or
``CONDA_PREFIX``; in other cases ``ASNET_TORCH_DIR`` names the folder that holds ``torch``. The build asks
for a torch only if none of them has a usable one: the binary uses the stable ABI of LibTorch, so the version
that it was compiled against does not limit where it runs.
"""

from __future__ import annotations

import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from setuptools import build_meta as _setuptools
from setuptools.build_meta import *  # noqa: F403  (every hook that is not replaced below)

MINIMUM_TORCH = (2, 11)


class TorchInstallation(NamedTuple):
    """Where an installed torch is and what it was built with."""

    packages: Path
    version: str
    cuda: str | None

    @property
    def include(self) -> Path:
        return self.packages / "torch" / "include"

    @property
    def lib(self) -> Path:
        return self.packages / "torch" / "lib"


def _package_folders() -> Iterator[Path]:
    if named := os.environ.get("ASNET_TORCH_DIR"):
        yield Path(named)
    yield from (Path(folder) for folder in sys.path if folder)
    paths = sysconfig.get_paths()
    yield Path(paths["platlib"])
    yield Path(paths["purelib"])
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if prefix := os.environ.get(variable):
            yield from Path(prefix).glob("lib/python3*/site-packages")
    yield from (Path(folder) for folder in site.getsitepackages())
    yield Path(site.getusersitepackages())


def _read_installation(packages: Path) -> TorchInstallation | None:
    version_file = packages / "torch" / "version.py"
    if (
        not version_file.is_file()
        or not (packages / "torch" / "include" / "torch" / "csrc" / "stable").is_dir()
    ):
        return None
    text = version_file.read_text()
    version = re.search(r"^__version__\s*(?::[^=]*)?=\s*['\"]([^'\"]+)", text, re.MULTILINE)
    cuda = re.search(r"^cuda\s*(?::[^=]*)?=\s*['\"]([^'\"]+)", text, re.MULTILINE)
    if version is None:
        return None
    number = re.match(r"(\d+)\.(\d+)", version[1])
    if number is None or (int(number[1]), int(number[2])) < MINIMUM_TORCH:
        return None
    return TorchInstallation(packages, version[1], cuda[1] if cuda else None)


def find_torch() -> TorchInstallation | None:
    """The first torch of at least ``MINIMUM_TORCH`` in the folders that may hold one, or None."""
    return next(filter(None, map(_read_installation, _package_folders())), None)


def _with_torch(requirements: list[str]) -> list[str]:
    found = find_torch()
    if found is not None:
        print(f"asnet: building against the installed torch {found.version}", file=sys.stderr)
        return requirements
    print("asnet: no torch 2.11 or later is installed, asking for one for the build", file=sys.stderr)
    return [*requirements, "torch>={}.{}".format(*MINIMUM_TORCH)]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return _with_torch(_setuptools.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    return _with_torch(_setuptools.get_requires_for_build_editable(config_settings))
