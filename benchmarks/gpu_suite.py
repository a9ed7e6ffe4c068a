"""Everything that only a GPU can tell, in one command and less than nine minutes.

    python benchmarks/gpu_suite.py [--output FOLDER] [--only PART ...]

Run with a Python that has torch with CUDA, NumPy, Pillow, safetensors, tqdm and pytest, on a machine with a
GPU and nvcc; nothing is downloaded. It builds asnet in an environment of its own that sees these packages,
runs the tests, compute-sanitizer over every kernel, CUDA graphs and streams, the benchmarks of the operators
and of the whole, and writes gpu_suite.json beside the benchmarks' own files. A part that fails or outlasts
its time costs no other part its result.
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

#: Characters of a part's output that are kept: its end, where summaries and errors stand.
KEPT_OUTPUT = 6000


@dataclass(frozen=True)
class Part:
    """One step: a command and the seconds that it may take."""

    name: str
    command: Sequence[str]
    limit: float


def parts(python: str, architecture: str) -> list[Part]:
    """The steps in their order; the first builds what the others use."""
    benchmarks = ROOT / "benchmarks"
    pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    exercise = [python, str(benchmarks / "gpu_exercise.py")]
    device = ["--device", "cuda"]
    return [
        Part(
            f"build for sm_{architecture}",
            [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)],
            90,
        ),
        Part("information", [python, "-m", "asnet", "info"], 20),
        Part("exercise", exercise, 30),
        Part("tests on CUDA", [*pytest, "-m", "cuda", "tests"], 90),
        Part("graphs and streams", [*pytest, "tests/ops/test_cuda.py"], 30),
        *(
            Part(tool, [sanitizer, "--tool", tool, "--error-exitcode", "1", *exercise], 40)
            for tool in ("memcheck", "racecheck", "synccheck")
        ),
        Part(
            "cross-correlation",
            [python, str(benchmarks / "cross_correlation.py"), *device, "--repeats", "5", "--budget", "2"],
            45,
        ),
        Part(
            "guided convolutions",
            [python, str(benchmarks / "guided_conv.py"), *device, "--repeats", "5", "--budget", "0.2"],
            45,
        ),
        Part(
            "runtime",
            [python, str(benchmarks / "runtime.py"), *device, "--repeats", "5", "--budget", "2"],
            60,
        ),
    ]


def run(part: Part, environment: dict[str, str]) -> dict[str, Any]:
    """Run one part; whatever happens to it, return what is known.

    Returns
    -------
    dict
        ``name``, ``status`` ("passed", "failed", "timed out", "not started"), ``seconds``, ``exit_code`` and
        the end of its ``output``.
    """
    start = time.perf_counter()
    result: dict[str, Any] = {"name": part.name, "command": " ".join(map(str, part.command))}
    # A file, not a pipe: what a killed command had written is kept.
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
            code = process.wait(part.limit)
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
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--only", nargs="*", default=[], help="parts whose name contains one of these")
    options = parser.parse_args()
    facts, architecture = describe_device()
    # Only now: it imports torch, whose absence describe_device says in one sentence.
    from measure import RESULTS, write_json

    with tempfile.TemporaryDirectory() as folder:
        # The packages of this Python, and asnet; nothing is installed outside of it.
        subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", folder], check=True)
        python = str(Path(folder, "bin", "python"))
        visible = os.pathsep.join(path for path in sys.path if path.endswith("-packages"))
        environment = os.environ | {
            "ASNET_CUDA": "1",
            "ASNET_CUDA_ARCHITECTURES": architecture,
            "PATH": f"{folder}/bin{os.pathsep}{os.environ['PATH']}",
            # In a virtual environment of its own, "system" means the one that this was made from.
            "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), visible])),
            "PYTHONUNBUFFERED": "1",
        }
        chosen = [
            part
            for part in parts(python, architecture)
            if part.name.startswith("build")
            or not options.only
            or any(word in part.name for word in options.only)
        ]
        report: dict[str, Any] = {"suite": "gpu_suite", "environment": facts, "parts": []}
        for part in chosen:
            print(f"{part.name} ..", flush=True)
            result = run(part, environment)
            report["parts"].append(result)
            report["seconds"] = round(sum(entry["seconds"] for entry in report["parts"]), 1)
            write_json(options.output / "gpu_suite.json", report)
            print(f"{part.name}: {result['status']} in {result['seconds']} s", flush=True)
            if result["status"] != "passed":
                print(result["output"], flush=True)
    if options.output.resolve() != RESULTS.resolve():
        for name in ("cross_correlation_cuda", "guided_conv_cuda", "runtime_cuda"):
            found = RESULTS / f"{name}.json"
            if found.is_file():
                shutil.copy(found, options.output)
    failed = [entry["name"] for entry in report["parts"] if entry["status"] != "passed"]
    print("all parts passed" if not failed else f"not passed: {', '.join(failed)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
