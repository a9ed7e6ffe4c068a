"""How much longer a deblurring takes while another process computes on one of two cores.

    python benchmarks/busy_machine.py [--model compact] [--turns 5]

The command and the library, each in its own process on two cores, deblur the same photograph repeatedly, in
turn: undisturbed, then with another process that only computes. They differ in OpenMP's wait policy, which
the command sets. Their results must be bit-identical. On a machine with more cores, two are used. Other load
disturbs both states and is shown.
"""

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from measure import save

from asnet.cli.main import set_wait_policy

CORES = 2

#: Limit of the ratio to the undisturbed time.
LARGEST_RATIO = 3.0


def serve(model: str, height: int, width: int) -> None:
    """In a separate process: deblur once for each line on standard input, and print hash and seconds."""
    import torch

    from asnet.data import BlurKernelConfig, blur, sample_blur_kernels
    from asnet.deblurring.deblurrer import Deblurrer

    generator = torch.Generator().manual_seed(0)
    kernel = sample_blur_kernels(1, BlurKernelConfig(canvas=21, minimum_size=21), generator=generator)
    # Blocks of many sizes give the analysis edges.
    sharp = torch.full((1, 3, height + 20, width + 20), 0.5)
    for side in (128, 48, 16):
        coarse = torch.rand(1, 3, *(length // side + 1 for length in sharp.shape[2:]), generator=generator)
        block = coarse.repeat_interleave(side, 2).repeat_interleave(side, 3)
        sharp += 0.25 * (block[..., : sharp.shape[2], : sharp.shape[3]] - 0.5)
    blurred = blur(sharp, kernel)[0]
    deblurrer = Deblurrer.from_pretrained(model, device="cpu")
    for _ in sys.stdin:
        begin = time.perf_counter()
        deblurrer.estimate_kernel(blurred)
        middle = time.perf_counter()
        result = deblurrer.deblur(blurred)
        end = time.perf_counter()
        digest = hashlib.sha256(result.image.numpy().tobytes()).hexdigest()[:16]
        print(digest, middle - begin, end - middle, flush=True)


@contextmanager
def competitor() -> Iterator[None]:
    """A process that computes, within the `with` block."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Contender:
    """A process that deblurs when asked to."""

    def __init__(self, name: str, options: argparse.Namespace, environment: dict[str, str]) -> None:
        self.name = name
        size = ["--height", str(options.height), "--width", str(options.width)]
        command = [sys.executable, __file__, "--serve", "--model", options.model, *size]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def deblur(self) -> tuple[str, float, float]:
        """Return a hash of the result, the seconds of the estimate alone and of a whole deblurring."""
        asked, answered = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answered is not None
        _ask(asked)
        fields = answered.readline().split()
        if len(fields) != 3:
            sys.exit(f"{self.name} ended without a result")
        return fields[0], float(fields[1]), float(fields[2])

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def _ask(stream: IO[str]) -> None:
    stream.write("again\n")
    stream.flush()


def measure(contenders: list[Contender], turns: int) -> list[dict[str, Any]]:
    """Run the contenders in turn, undisturbed and disturbed; print a line for each turn."""
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    digests = {contender.deblur()[0] for contender in contenders}
    for turn in range(turns):
        for contender in contenders:
            for state in ("undisturbed", "disturbed"):
                if state == "disturbed":
                    with competitor():
                        digest, *seconds = contender.deblur()
                else:
                    digest, *seconds = contender.deblur()
                digests.add(digest)
                times.setdefault((contender.name, state), []).append((seconds[0], seconds[1]))
                print(
                    f"{turn + 1} {contender.name:8} {state:12} estimate {seconds[0]:6.2f} s, "
                    f"deblurring {seconds[1]:6.2f} s, load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
    if len(digests) != 1:
        sys.exit(f"the results differ: {', '.join(sorted(digests))}; the times stand for nothing")
    rows = []
    for contender in contenders:
        row: dict[str, Any] = {"name": contender.name}
        for stage, place in (("estimate", 0), ("deblurring", 1)):
            for state in ("undisturbed", "disturbed"):
                seconds = [pair[place] for pair in times[contender.name, state]]
                row[f"{stage}_{state}_s"] = round(statistics.median(seconds), 3)
                row[f"{stage}_{state}_spread_s"] = round(max(seconds) - min(seconds), 3)
            ratio = row[f"{stage}_disturbed_s"] / row[f"{stage}_undisturbed_s"]
            row[f"{stage}_ratio"] = round(ratio, 2)
        rows.append(row)
    return rows


def run(options: argparse.Namespace) -> None:
    """Measure, print and write."""
    load = round(os.getloadavg()[0], 1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    library = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = dict(library)
    set_wait_policy(command)
    contenders = [
        Contender(name, options, environment)
        for name, environment in (("command", command), ("library", library))
    ]
    try:
        rows = measure(contenders, options.turns)
    finally:
        for contender in contenders:
            contender.close()
    for row in rows:
        verdict = "as it should be" if row["deblurring_ratio"] <= LARGEST_RATIO else "too slow"
        print(f"{row['name']}: {row['deblurring_ratio']:.2f} times the undisturbed time, {verdict}")
    size = f"{options.width}x{options.height}"
    facts = {"model": Path(options.model).stem, "size": size, "cores": CORES, "load_before": load}
    print("written to", save("busy_machine", rows, **facts).name)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", default="compact", help="name or weights file")
    parser.add_argument("--turns", type=int, default=5, help="how often each is measured")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--height", type=int, default=768)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.model, options.height, options.width)
    else:
        run(options)


if __name__ == "__main__":
    main()
