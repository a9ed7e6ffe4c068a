"""Measurements of the benchmarks: first correctness, then all contenders in turn; a table and a JSON file.

A benchmark builds `Case` objects whose contenders compute the same thing. `measure` refuses to time a case
whose results disagree. It then runs the contenders in turn, so that changes of the machine's speed affect all
of them, and reports the median and the spread (the interquartile range).
"""

import argparse
import ctypes
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Contender:
    """One way to compute a case.

    Attributes
    ----------
    name : str
        Its name in the table.
    run : callable
        Computes and returns the tensors to compare.
    tolerance : float
        Largest deviation from the first contender, relative to the largest absolute value there.
    """

    name: str
    run: Callable[[], Sequence[Tensor]]
    tolerance: float = 1e-4


@dataclass(frozen=True)
class Case:
    """Contenders for one computation; the first is ours."""

    name: str
    contenders: Sequence[Contender]
    facts: dict[str, Any] = field(default_factory=dict)


def deviation(result: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest deviation of any tensor, relative to the largest absolute value expected there."""
    return max(
        float((one.double() - two.double()).abs().max() / two.double().abs().max().clamp(min=1e-30))
        for one, two in zip(result, expected, strict=True)
    )


def synchronise() -> None:
    """Wait for the device, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(run: Callable[[], Any]) -> float:
    """Wall time of one call."""
    synchronise()
    start = time.perf_counter()
    run()
    synchronise()
    return time.perf_counter() - start


def _resident_peak() -> int:
    """Largest resident size of this process since `_reset_peak`, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def peak_memory(run: Callable[[], Any]) -> float:
    """Additional megabytes (10^6) that one call needs, including its results."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        synchronise()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    # Memory that the allocator keeps from earlier calls would hide part of this call's need.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the present size
    before = _resident_peak()
    run()
    return (_resident_peak() - before) / 1e6


def check(case: Case) -> dict[str, float]:
    """Deviation of every contender from the first, by name.

    Raises
    ------
    SystemExit
        One deviates by more than its tolerance.
    """
    ours = case.contenders[0]
    expected = [tensor.detach().clone() for tensor in ours.run()]
    deviations = {}
    for contender in case.contenders:
        off = deviation([tensor.detach() for tensor in contender.run()], expected)
        if not off <= contender.tolerance:
            sys.exit(
                f"{case.name}: {contender.name} deviates by {off:.2e} from {ours.name}; nothing was timed."
            )
        deviations[contender.name] = off
    return deviations


def measure(case: Case, *, repeats: int, budget: float) -> dict[str, Any]:
    """Check, then time the contenders of a case in turn.

    Parameters
    ----------
    case : Case
    repeats : int
        Maximum number of turns; there are at least three.
    budget : float
        Seconds after which no further turn starts.

    Returns
    -------
    dict
        ``name``, the facts and, under ``contenders``, for every name ``median_ms``, ``spread_ms``,
        ``best_ms``, ``turns``, ``memory_mb``, ``deviation``, and ``ratio``: its median over that of the
        first.

    Raises
    ------
    SystemExit
        A contender disagrees with the first: nothing is timed.
    """
    rows: dict[str, dict[str, Any]] = {name: {"deviation": off} for name, off in check(case).items()}
    for contender in case.contenders:
        rows[contender.name]["memory_mb"] = round(peak_memory(contender.run), 1)
    times: dict[str, list[float]] = {contender.name: [] for contender in case.contenders}
    start = time.perf_counter()
    for turn in range(repeats):
        if turn >= 3 and time.perf_counter() - start > budget:
            break
        for contender in case.contenders:
            times[contender.name].append(seconds_of(contender.run))
    median_of_ours = statistics.median(times[case.contenders[0].name])
    for name, seconds in times.items():
        low, _, high = statistics.quantiles(seconds, n=4)
        rows[name] |= {
            "median_ms": round(1e3 * statistics.median(seconds), 3),
            "spread_ms": round(1e3 * (high - low), 3),
            "best_ms": round(1e3 * min(seconds), 3),
            "turns": len(seconds),
            "ratio": round(statistics.median(seconds) / median_of_ours, 2),
        }
    return {"name": case.name, **case.facts, "contenders": rows}


def environment() -> dict[str, Any]:
    """Machine, versions and revision, without names that identify the machine."""
    processor = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    git = ["git", "-C", str(Path(__file__).parent)]
    revision = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True).stdout
    found = {
        "processor": processor,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "revision": revision + ("+changes" if changed else ""),
        "date": time.strftime("%Y-%m-%d"),
    }
    if torch.cuda.is_available():
        found["device"] = torch.cuda.get_device_name()
    return found


def convolutions() -> dict[str, str]:
    """The implementation of convolutions on this CPU, which its name does not always determine."""
    from asnet.ops._extension import describe

    described = describe()
    return {name: described[name] for name in ("instruction set", "convolutions in 16 bits")}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def print_table(results: Sequence[dict[str, Any]], *, heads: bool = True) -> None:
    """One line per contender, under a line of heads."""
    if heads:
        names = f"{'median ms':>10} {'spread':>8} {'ratio':>6} {'MB':>7} {'deviation':>9}"
        print(f"{'case':34} {'contender':30} {names}")
    for result in results:
        for name, row in result["contenders"].items():
            print(
                f"{result['name']:34} {name:30} {row['median_ms']:10.2f} {row['spread_ms']:8.2f} "
                f"{row['ratio']:6.2f} {row['memory_mb']:7.0f} {row['deviation']:9.1e}",
                flush=True,
            )


def save(benchmark: str, results: Sequence[dict[str, Any]], **facts: Any) -> Path:
    """Write ``benchmarks/results/<benchmark>.json`` and return its path."""
    path = RESULTS / f"{benchmark}.json"
    write_json(
        path, {"benchmark": benchmark, "environment": environment(), **facts, "results": list(results)}
    )
    return path


def with_device(benchmark: str, device: str | torch.device) -> str:
    """Return the name of a benchmark's results on a device; those of the CPU have the plain name."""
    kind = torch.device(device).type
    return benchmark if kind == "cpu" else f"{benchmark}_{kind}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file atomically, and its folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    unfinished.replace(path)


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean of positive values."""
    return statistics.geometric_mean(values)


def measure_against_torch(
    benchmark: str, cases: Iterable[Case], options: argparse.Namespace, *, goal: str
) -> None:
    """Measure cases of the contenders "asnet" and "torch", print a table and a summary, write the results.

    Parameters
    ----------
    benchmark : str
        Its name; nothing is written if only some cases are selected.
    cases : iterable of Case
        Built on demand.
    options : argparse.Namespace
        Those of `arguments`.
    goal : str
        What the ratios should be.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    results = []
    with torch.no_grad():
        for case in cases:
            if options.only in case.name:
                results.append(measure(case, repeats=options.repeats, budget=options.budget))
                print_table(results[-1:], heads=len(results) == 1)
    mean = geometric_mean([result["contenders"]["torch"]["ratio"] for result in results])
    print(f"torch takes {mean:.2f} times as long (geometric mean)")
    if not options.only:
        save(benchmark, results, goal=goal, geometric_mean=round(mean, 2))


def arguments(description: str) -> argparse.ArgumentParser:
    """Options of all benchmarks."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=9, help="turns of every contender, at most")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds per case before turns stop")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; 0: as torch chooses")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    return parser
