"""Time of `official`, the released topology, against the same network on TensorFlow, in turn in one run.

    python benchmarks/released_topology.py --tensorflow /path/to/python [--repeats 3]

TensorFlow runs in a separate process with the given Python (which needs TensorFlow and NumPy), with our
weights and image. Kernel and image must agree before anything is timed. Peak memory is that of the whole
process, including libraries.
"""

import argparse
import json
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import deviation, save, seconds_of
from runtime import blurred_image

from asnet.networks import ASNetConfig, DeblurNetwork

SIZE = (768, 1024)
STAGES = ("analysis", "synthesis")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
#: Relative to the largest value; in bfloat16 every layer rounds.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.15}
GOAL = "4 times faster in bfloat16, 2 times in float32, with less than 2 GB"


class TensorFlow:
    """The other process."""

    def __init__(self, python: str, network: DeblurNetwork, image: np.ndarray, folder: Path) -> None:
        arrays = {name: value.numpy() for name, value in network.state_dict().items()}
        np.savez(folder / "weights.npz", **arrays)
        np.save(folder / "image.npy", image)
        worker = Path(__file__).with_name("released_topology_tensorflow.py")
        paths = [str(folder / name) for name in ("weights.npz", "image.npy", "output.npz")]
        self.process = subprocess.Popen(
            [python, str(worker), *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version = self._answer()["version"]
        self.output = dict(np.load(folder / "output.npz"))

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("TensorFlow's process ended without an answer; its message is above.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def run(self, stage: str) -> dict[str, Any]:
        """Run one stage there; return its seconds and the process's peak memory."""
        assert self.process.stdin is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(stage + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        # Its idle threads keep spinning, which would slow down ours.
        self.process.send_signal(signal.SIGSTOP)
        return answer


def main() -> None:
    """Compare, time in turn, print a table and write the result."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--tensorflow", required=True, help="a Python that has TensorFlow")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    network = DeblurNetwork(ASNetConfig.official()).eval()
    blurred = blurred_image(*SIZE, torch.device("cpu"))

    def run(stage: str, precision: str, kernel: torch.Tensor) -> torch.Tensor:
        dtype = PRECISIONS[precision]
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            result: torch.Tensor = (
                network.analysis(blurred) if stage == "analysis" else network.synthesis(blurred, kernel)
            )
        return result

    with tempfile.TemporaryDirectory() as folder:
        other = TensorFlow(
            options.tensorflow, network, blurred.permute(0, 2, 3, 1).contiguous().numpy(), Path(folder)
        )
    kernel = torch.from_numpy(other.output["kernel"])[None]
    truths = {"analysis": kernel, "synthesis": torch.from_numpy(other.output["image"]).permute(0, 3, 1, 2)}
    deviations = {}
    for precision, tolerance in TOLERANCES.items():
        for stage, truth in truths.items():
            off = deviation([run(stage, precision, kernel)], [truth])
            if not off <= tolerance:
                sys.exit(f"{stage} in {precision} deviates by {off:.2e} from TensorFlow; nothing was timed.")
            deviations[f"{precision} {stage}"] = off
    times: dict[str, dict[str, list[float]]] = {
        name: {stage: [] for stage in STAGES} for name in ("tensorflow", *PRECISIONS)
    }
    peak = 0.0
    for _ in range(options.repeats):
        for stage in STAGES:
            answer = other.run(stage)
            peak = answer["peak_mb"]
            times["tensorflow"][stage].append(answer["seconds"])
            for precision in PRECISIONS:
                times[precision][stage].append(seconds_of(lambda s=stage, p=precision: run(s, p, kernel)))  # type: ignore[misc]
    other.process.kill()
    medians = {
        name: {stage: statistics.median(seconds) for stage, seconds in stages.items()}
        for name, stages in times.items()
    }
    totals = {name: sum(stages.values()) for name, stages in medians.items()}
    memory = {"tensorflow": peak, "asnet": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}
    print(f"{'':12}{'analysis s':>12}{'synthesis s':>12}{'together s':>12}{'ratio':>8}")
    results = []
    for name, stages in medians.items():
        ratio = totals["tensorflow"] / totals[name]
        print(
            f"{name:12}{stages['analysis']:12.2f}{stages['synthesis']:12.2f}{totals[name]:12.2f}{ratio:8.2f}"
        )
        spreads = {stage: max(seconds) - min(seconds) for stage, seconds in times[name].items()}
        results.append(
            {"name": name, "median_s": stages, "range_s": spreads, "total_s": totals[name], "ratio": ratio}
        )
    print(f"peak memory: TensorFlow {memory['tensorflow']:.0f} MB, asnet {memory['asnet']:.0f} MB")
    path = save(
        "released_topology",
        results,
        goal=GOAL,
        size=f"{SIZE[1]}x{SIZE[0]}",
        tensorflow=other.version,
        deviation=deviations,
        peak_memory_mb=memory,
        repeats=options.repeats,
    )
    print("written to", path.name)


if __name__ == "__main__":
    main()
