"""Runs the kernels' tests under sanitizers: python tests/kernels/sanitize.py SANITIZERS [pytest's options]

SANITIZERS is ``address``, ``undefined``, ``thread`` or ``address,undefined``. The process ends at the first
report, with a nonzero exit status. Where a sanitizer cannot run, the command says so and succeeds.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# PYTHONSAFEPATH keeps the script's folder off the path.
sys.path.insert(0, str(Path(__file__).resolve().parent))
from build_kernels import FOLDER, ROOT, BuildError, build_module, compiler, run

LIBRARIES = {"address": "libasan.so", "thread": "libtsan.so", "undefined": "libubsan.so"}
ADDR_NO_RANDOMIZE = 0x0040000


class CannotRun(Exception):
    """The sanitizer does not run on this machine."""


def environment(sanitizers: str, module: Path) -> dict[str, str]:
    """Environment of a Python in which the module, built with the sanitizers, can be loaded.

    The runtime of a sanitizer must be loaded first, hence LD_PRELOAD.
    """
    library = LIBRARIES[sanitizers.split(",")[0]]
    # AddressSanitizer looks up the functions of C++ exceptions when it starts.
    paths = [
        run([*compiler(), f"-print-file-name={name}"], "the compiler").decode().strip()
        for name in (library, "libstdc++.so")
    ]
    if not all(Path(path).is_absolute() for path in paths):
        raise CannotRun(f"{compiler()[0]} brings no {library}")
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(paths),
        "ASNET_SANITIZE": sanitizers,
        "ASNET_KERNELS_MODULE": str(module),
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "TSAN_OPTIONS": "halt_on_error=1:history_size=7",
        "OPENBLAS_NUM_THREADS": "1",
    }


def fix_addresses() -> None:
    """Disables address randomisation for programs that this process executes."""
    ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE)


class SanitizedPython:
    """A Python that runs with the kernels' module built with sanitizers.

    Parameters
    ----------
    sanitizers : as in ``ASNET_SANITIZE``.

    Raises
    ------
    CannotRun
        If the sanitizer does not run on this machine.
    """

    def __init__(self, sanitizers: str) -> None:
        before = os.environ.get("ASNET_SANITIZE")
        os.environ["ASNET_SANITIZE"] = sanitizers
        try:
            module = build_module()
        finally:
            if before is None:
                del os.environ["ASNET_SANITIZE"]
            else:
                os.environ["ASNET_SANITIZE"] = before
        self.environment = environment(sanitizers, module)
        # ThreadSanitizer needs its own part of the address space, where newer versions of Linux may map
        # libraries.
        self.fixed_addresses = False
        probe = self.run(["-c", "import numpy"], capture=True)
        if probe.returncode != 0:
            self.fixed_addresses = True
            probe = self.run(["-c", "import numpy"], capture=True)
        if probe.returncode != 0:
            raise CannotRun(f"Python does not start with {self.environment['LD_PRELOAD']}: {probe.stderr}")

    def run(self, arguments: Sequence[str], capture: bool = False) -> subprocess.CompletedProcess[str]:
        """Runs Python with the arguments."""
        return subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=capture,
            text=True,
            preexec_fn=fix_addresses if self.fixed_addresses else None,
        )


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status."""
    if not arguments or not set(arguments[0].split(",")) <= set(LIBRARIES):
        print(__doc__, file=sys.stderr)
        return 2
    sanitizers, *options = arguments
    try:
        python = SanitizedPython(sanitizers)
    except (BuildError, CannotRun) as error:
        print(f"The kernels are not run under {sanitizers}: {error}")
        return int(isinstance(error, BuildError))
    # A report ends the process that writes it, so pytest must not capture it. Conftests of parent folders
    # import torch.
    flags = ["--capture=sys", "-v", f"--confcutdir={FOLDER}", "-p", "no:cacheprovider"]
    return python.run(["-m", "pytest", *flags, str(FOLDER), *options]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
