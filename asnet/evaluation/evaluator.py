"""Runs an evaluation: several images at a time, each saved as soon as it is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock

import torch
from torch import Tensor

from asnet.deblurring.deblurrer import Deblurrer
from asnet.deblurring.kernel_search import Scale
from asnet.errors import AsnetError, InputError, is_out_of_memory
from asnet.evaluation.benchmark import Benchmark, Case
from asnet.evaluation.records import Record, RunFolder
from asnet.imaging import picture_from_tensor, tensor_from_picture, write_picture

#: Memory of an image in process: fixed bytes, bytes per pixel, and the maximum, because large images are
#: deblurred in tiles. `official()` needs about this much, the other configurations less.
_BASE_MEMORY = 2**29
_PIXEL_MEMORY = 4096
_LARGEST_MEMORY = 3 * 2**30

#: Share of the free memory that images may take together.
_MEMORY_SHARE = 0.7

#: Bits per channel of saved grey results; colour has 8, as the benchmarks' own scripts expect.
_GREY_BITS = 16


@dataclass(frozen=True)
class Result:
    """An image to score, (C, H, W), range [0, 1], and the scale of the deblurring, if any."""

    image: Tensor
    scale: int | None = None


#: Returns the result of a case.
Source = Callable[[Case], Result]


class Deblurring:
    """Deblurs the blurred images.

    Parameters
    ----------
    deblurrer : Deblurrer
        The evaluated networks. It may be shared by several threads.
    benchmark : Benchmark
        Reads the images.
    scale : int or "auto"
        See `Deblurrer.deblur`.
    kernel : callable, optional
        Returns the blur kernel (K, K) to remove for a case; estimated by default.
    folder : Path, optional
        Results are written there as <name>.png.
    """

    def __init__(
        self,
        deblurrer: Deblurrer,
        benchmark: Benchmark,
        *,
        scale: Scale = "auto",
        kernel: Callable[[Case], Tensor] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._deblurrer = deblurrer
        self._benchmark = benchmark
        self._scale = scale
        self._kernel = kernel
        self._folder = folder
        # A GPU processes one image at a time; threads take turns.
        self._turn = nullcontext() if deblurrer.device.type == "cpu" else Lock()

    def __call__(self, case: Case) -> Result:
        """Deblur one image.

        The result is quantised like its file, so that `--results` of the saved images gives the same scores.
        """
        blurred = self._benchmark.read(case.blurred)
        kernel = None if self._kernel is None else self._kernel(case)
        with self._turn:
            deblurred = self._deblurrer.deblur(blurred, kernel, scale=self._scale)
        picture = picture_from_tensor(deblurred.image, _GREY_BITS)
        if self._folder is not None:
            write_picture(self._folder / f"{case.name}.png", picture)
        return Result(tensor_from_picture(picture), deblurred.scale)


class GivenResults:
    """Reads results of any method from files.

    Parameters
    ----------
    files : mapping of str to Path
        The result of each case's name.
    benchmark : Benchmark
        Reads the images.
    """

    def __init__(self, files: Mapping[str, Path], benchmark: Benchmark) -> None:
        self._files = files
        self._benchmark = benchmark

    def __call__(self, case: Case) -> Result:
        """Read one result."""
        return Result(self._benchmark.read(self._files[case.name]))


class _StoppedError(Exception):
    """The evaluation ends before this image is done."""


def evaluate(
    benchmark: Benchmark,
    cases: Sequence[Case],
    results: Source,
    run: RunFolder,
    *,
    references: Source | None = None,
    jobs: int = 1,
) -> Generator[tuple[str, AsnetError | None], None, None]:
    """Score the cases and keep a record of each.

    Every image is computed by one thread, so that scores do not depend on `jobs`.

    Parameters
    ----------
    benchmark : Benchmark
        The protocol.
    cases : sequence of Case
        Cases to evaluate.
    results, references : callable
        Return the result of a case and, for benchmarks with error ratios, its result with the true kernel.
    run : RunFolder
        Folder of the records.
    jobs : int
        Images at a time.

    Yields
    ------
    tuple
        Name of a finished case, in any order, and its error, if any. Closing the generator stops the running
        images, which leave no record.
    """
    stopping = Event()

    def proceed() -> None:
        if stopping.is_set():
            raise _StoppedError

    def score(case: Case) -> None:
        proceed()
        result = results(case)
        proceed()
        reference = None if references is None else references(case).image
        proceed()
        scores = benchmark.score(case, result.image, reference, proceed)
        run.write(case.name, Record(scores, result.scale))

    with _one_thread_each(), ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(score, case): case.name for case in cases}
        try:
            for future in as_completed(futures):
                error: AsnetError | None = None
                try:
                    future.result()
                except AsnetError as raised:
                    error = raised
                except Exception as raised:
                    if not is_out_of_memory(raised):
                        raise
                    error = InputError(
                        "there is not enough memory; try fewer --jobs or a smaller --tile-size"
                    )
                yield futures[future], error
        finally:
            stopping.set()
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def default_jobs(largest_pixels: int) -> int:
    """Return how many images of that many pixels to process in parallel: one per core, as memory allows."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    each = min(_LARGEST_MEMORY, _BASE_MEMORY + _PIXEL_MEMORY * largest_pixels)
    return max(1, min(cores, int(_MEMORY_SHARE * _free_memory() / each)))


def _free_memory() -> int:
    """Bytes that are free or can be freed; if unknown, all memory of the machine."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
