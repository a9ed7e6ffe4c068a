"""All tests and measurements that need a GPU, in two calls of at most six minutes each.

    python benchmarks/gpu_suite.py operators    # correctness, then the time of the operators
    python benchmarks/gpu_suite.py networks     # a photograph, the time of the networks, profiles

Run with a Python that has torch with CUDA, NumPy, Pillow, safetensors, tqdm and pytest, on a machine with a
GPU and nvcc; nothing is downloaded. Each call builds asnet for the present device, in a separate environment
that sees these packages, and after every part writes gpu_suite_operators.json or gpu_suite_networks.json next
to the benchmarks' own files. A part that fails or exceeds its time does not affect the others; parts without
remaining time are listed as such.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"

#: Seconds of one call. If all parts used their full time, the last would have none.
CALL_SECONDS = 350.0

#: Characters of a part's output that are kept: its end, with summaries and errors.
KEPT_OUTPUT = 6000


@dataclass(frozen=True)
class Part:
    """One step: a command and its time limit in seconds."""

    name: str
    command: Sequence[str]
    limit: float


def parts(call: str, python: str, architecture: str, folder: Path) -> list[Part]:
    """The steps of a call in order; the first builds what the others use, `folder` receives pictures."""
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    build = [
        Part(f"build for sm_{architecture}", [python, *install], 90),
        Part("information", [python, "-m", "asnet", "info"], 20),
    ]
    return [*build, *(of_operators(python) if call == "operators" else of_networks(python, folder))]


def of_operators(python: str) -> list[Part]:
    """Correctness, the most important first, then times."""
    pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    exercise = [python, str(BENCHMARKS / "gpu_exercise.py")]
    times = ["--device", "cuda", "--repeats", "5", "--budget"]
    return [
        Part("exercise", exercise, 30),
        Part("tests on CUDA", [*pytest, "-m", "cuda", "tests"], 90),
        Part("cross-correlation", [python, str(BENCHMARKS / "cross_correlation.py"), *times, "2"], 45),
        Part("latent images", [python, str(BENCHMARKS / "sparse_latent.py"), *times, "0.5"], 30),
        Part("Toeplitz systems", [python, str(BENCHMARKS / "toeplitz_solve.py"), *times, "0.2"], 30),
        Part("guided convolutions", [python, str(BENCHMARKS / "guided_conv.py"), *times, "0.2"], 45),
        *(
            Part(tool, [sanitizer, "--tool", tool, "--error-exitcode", "1", *exercise], 40)
            for tool in ("memcheck", "racecheck", "synccheck")
        ),
    ]


def of_networks(python: str, folder: Path) -> list[Part]:
    """A photograph, the usual times, then each topology against plain torch with its profile."""
    runtime = [python, str(BENCHMARKS / "runtime.py"), "--device", "cuda", "--repeats", "5", "--budget", "2"]
    photograph = [str(ROOT / "examples" / "blurred.jpg"), "--device", "cuda", "--output"]
    return [
        Part("photograph", [python, "-m", "asnet", "deblur", *photograph, str(folder / "sharp.png")], 30),
        Part("runtime", runtime, 60),
        *(
            Part(f"profile of {name}", [*runtime, "--plain", "--operators", "--only", name], 60)
            for name in ("official", "compact", "paper")
        ),
    ]


def run(part: Part, environment: dict[str, str], seconds_left: float) -> dict[str, Any]:
    """Run one part within the remaining time and return its result, even if it fails.

    Returns
    -------
    dict
        ``name``, ``status`` ("passed", "failed", "timed out", "not started", "no time"), ``seconds``,
        ``exit_code`` and the end of its ``output``.
    """
    start = time.perf_counter()
    result: dict[str, Any] = {"name": part.name, "command": " ".join(map(str, part.command))}
    if seconds_left <= 0:
        return result | {"status": "no time", "seconds": 0.0, "exit_code": None, "output": ""}
    # A file, not a pipe, keeps the output of a killed command.
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        try:
            process = subprocess.Popen(
                part.command,
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return result | {"status": "not started", "seconds": 0.0, "exit_code": None, "output": str(error)}
        try:
            code = process.wait(min(part.limit, seconds_left))
            status = "passed" if code == 0 else "failed"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code, status = process.wait(), "timed out"
        output.seek(0)
        text = output.read()
    seconds = round(time.perf_counter() - start, 1)
    return result | {"status": status, "seconds": seconds, "exit_code": code, "output": text[-KEPT_OUTPUT:]}


def describe_device() -> tuple[dict[str, Any], str]:
    """Device and versions, and the device's architecture ("90" for 9.0), or end with one sentence."""
    try:
        import torch
    except ImportError:
        sys.exit(f"{sys.executable} has no torch; run this with a Python that has torch with CUDA")
    if not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} finds no CUDA device; this suite is for machines with one")
    from measure import environment

    major, minor = torch.cuda.get_device_capability()
    facts = environment() | {"cuda": torch.version.cuda}
    return facts, f"{major}{minor}"


def main() -> None:
    """Run the parts, write the report after each, exit with 1 if one did not pass."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("call", choices=("operators", "networks"))
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--only", nargs="*", default=[], help="parts whose name contains one of these")
    options = parser.parse_args()
    start = time.perf_counter()
    facts, architecture = describe_device()
    # Imported late: it imports torch, whose absence describe_device reports in one sentence.
    from measure import RESULTS, write_json

    with tempfile.TemporaryDirectory() as folder:
        # The packages of this Python, and asnet; nothing is installed outside it.
        subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", folder], check=True)
        python = str(Path(folder, "bin", "python"))
        visible = os.pathsep.join(path for path in sys.path if path.endswith("-packages"))
        environment = os.environ | {
            "ASNET_CUDA": "1",
            "ASNET_CUDA_ARCHITECTURES": architecture,
            "PATH": f"{folder}/bin{os.pathsep}{os.environ['PATH']}",
            # In a virtual environment, "system" means the environment it was created from.
            "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), visible])),
            "PYTHONUNBUFFERED": "1",
        }
        chosen = [
            part
            for part in parts(options.call, python, architecture, Path(folder))
            if part.name.startswith("build")
            or not options.only
            or any(word in part.name for word in options.only)
        ]
        report: dict[str, Any] = {"suite": f"gpu_suite {options.call}", "environment": facts, "parts": []}
        options.output.mkdir(parents=True, exist_ok=True)
        for part in chosen:
            print(f"{part.name} ..", flush=True)
            result = run(part, environment, CALL_SECONDS - (time.perf_counter() - start))
            report["parts"].append(result)
            report["seconds"] = round(sum(entry["seconds"] for entry in report["parts"]), 1)
            write_json(options.output / f"gpu_suite_{options.call}.json", report)
            print(f"{part.name}: {result['status']} in {result['seconds']} s", flush=True)
            if result["status"] != "passed":
                print(result["output"], flush=True)
            if options.output.resolve() != RESULTS.resolve():
                for found in RESULTS.glob("*_cuda*.json"):
                    shutil.copy(found, options.output)
    failed = [entry["name"] for entry in report["parts"] if entry["status"] != "passed"]
    print("all parts passed" if not failed else f"not passed: {', '.join(failed)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
