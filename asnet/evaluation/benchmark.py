"""Base class of evaluation protocols: images, score of an image, summary of scores."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import ClassVar

from torch import Tensor

from asnet.evaluation.inventory import KERNEL_FILE_SUFFIXES, Inventory
from asnet.imaging import read_photograph, unit_range

Scores = dict[str, float]


@dataclass(frozen=True)
class Case:
    """One blurred image of a benchmark and its ground truth.

    Parameters
    ----------
    name : str
        File name of the blurred image without suffix; results of other methods have the same name.
    blurred : Path
        The blurred image.
    ground_truth : tuple of Path
        The sharp image, or several.
    kernel : Path, optional
        The true blur kernel.
    """

    name: str
    blurred: Path
    ground_truth: tuple[Path, ...]
    kernel: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the case."""
        return (self.blurred, *self.ground_truth, *(() if self.kernel is None else (self.kernel,)))


@dataclass(frozen=True)
class Measure:
    """One column: key in CSV and JSON, heading and digits after the point in Markdown."""

    key: str
    heading: str
    digits: int

    def text(self, value: float) -> str:
        """Format a value for the Markdown tables."""
        return f"{value:.{self.digits}f}"


@dataclass(frozen=True)
class Published:
    """Rows of a table of the paper with the protocol and columns of a benchmark's summary.

    Parameters
    ----------
    source : str
        Source of the rows.
    rows : sequence of tuple of str
        Method, then its figures as printed, in the order of the summary.
    """

    source: str
    rows: Sequence[tuple[str, ...]]


class Benchmark(ABC):
    """A data set and its evaluation protocol."""

    #: Name on the command line.
    name: ClassVar[str]
    #: Heading of its tables.
    title: ClassVar[str]
    #: The protocol in sentences, for the head of its tables.
    protocol: ClassVar[str]
    #: Measures of each image, and of the whole data set.
    measures: ClassVar[tuple[Measure, ...]]
    summary: ClassVar[tuple[Measure, ...]]
    #: Whether images are (1, H, W) instead of (3, H, W).
    grey: ClassVar[bool] = False
    published: ClassVar[Published | None] = None

    @abstractmethod
    def cases(self, folder: Path, inventory: Inventory) -> list[Case]:
        """Return the cases of a data set's folder in order; missing files are noted in the inventory."""

    @abstractmethod
    def score(
        self, case: Case, result: Tensor, reference: Tensor | None, proceed: Callable[[], None] = lambda: None
    ) -> Scores:
        """Score one result.

        Parameters
        ----------
        case : Case
            The case of the result.
        result : Tensor
            (C, H, W), range [0, 1].
        reference : Tensor, optional
            The result of the same non-blind method with the true blur kernel, for benchmarks that compare
            with it.
        proceed : callable
            Called regularly; raises to end the evaluation.

        Returns
        -------
        dict of str to float
            One value for each of `measures`.
        """

    @abstractmethod
    def summarise(self, scores: Mapping[str, Scores]) -> Scores:
        """Return one value for each of `summary` from the scores of all cases."""

    def kernel_file(self, case: Case, folder: Path, inventory: Inventory) -> Path:
        """Return the file of a case's blur kernel in a folder of estimates, named like the blurred image."""
        return inventory.find(folder, case.name, KERNEL_FILE_SUFFIXES)

    def read(self, path: Path) -> Tensor:
        """Read an image as this benchmark compares it: (1, H, W) or (3, H, W) float32, range [0, 1].

        Raises
        ------
        ImageFileError
            If the file cannot be read.
        """
        pixels = unit_range(read_photograph(path).pixels)
        if self.grey:
            # Results of other methods may have been saved in colour, with three equal channels.
            return pixels.mean(0, keepdim=True)
        return pixels.expand(3, -1, -1)


def mean(scores: Mapping[str, Scores], key: str) -> float:
    """Return the mean of a measure over all cases."""
    return fmean(values[key] for values in scores.values())


def decibels(mean_squared_error: float, peak: float = 1.0) -> float:
    """Return the PSNR of a mean squared error; infinite for 0."""
    return 10 * math.log10(peak**2 / mean_squared_error) if mean_squared_error > 0 else math.inf


def subfolder(folder: Path, name: str) -> Path:
    """Return a subfolder if it exists, or the folder itself."""
    return folder / name if (folder / name).is_dir() else folder
