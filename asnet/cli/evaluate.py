"""``asnet evaluate``: score the networks, or results of any method, by the protocol of a benchmark."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from asnet import __version__
from asnet.cli.batch import add_model_options, add_scale_option, load_deblurrer, say, whole_number
from asnet.cli.destinations import make_folder
from asnet.deblurring.deblurrer import Deblurrer
from asnet.errors import InputError
from asnet.evaluation.benchmark import Benchmark, Case
from asnet.evaluation.error_ratios import ErrorRatioBenchmark
from asnet.evaluation.evaluator import (
    Deblurring,
    GivenResults,
    Source,
    default_jobs,
    evaluate,
)
from asnet.evaluation.inventory import RESULT_SUFFIXES, Inventory, file_hash, fingerprint
from asnet.evaluation.koehler import Koehler
from asnet.evaluation.lai import Lai
from asnet.evaluation.levin import Levin
from asnet.evaluation.pairs import Pairs
from asnet.evaluation.records import RunFolder
from asnet.evaluation.reports import write_tables
from asnet.evaluation.sun import Sun
from asnet.imaging import read_kernel
from asnet.pretrained import find_weights

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark for benchmark in (Koehler(), Lai(), Levin(), Sun(), Pairs())
}

#: Where --save-images puts results, in the output folder.
IMAGES = "images"

_EPILOG = """examples:
  asnet evaluate levin --data levin2009/ -o scores/levin
  asnet evaluate koehler --data koehler/ -o scores/koehler --model official.safetensors --save-images
  asnet evaluate lai --data lai/ -o scores/other --results other-method/
  asnet evaluate levin --data levin2009/ -o scores/cho --kernels kernel-estimates/cho/
  asnet evaluate pairs --data mine/ -o scores/mine

The same command continues an interrupted run.
docs/evaluation.md lists the files of each data set."""


@dataclass(frozen=True)
class Plan:
    """Every file of an evaluation, found before anything runs."""

    benchmark: Benchmark
    cases: list[Case]
    #: Results of another method, results of its non-blind part with the true kernels, and blur kernels to
    #: remove, each by the case's name; None where not given.
    results: dict[str, Path] | None
    references: dict[str, Path] | None
    kernels: dict[str, Path] | None
    largest_pixels: int

    @property
    def given(self) -> dict[str, dict[str, Path] | None]:
        """The files that are not part of the data set, by kind."""
        return {"results": self.results, "references": self.references, "kernels": self.kernels}

    @property
    def uses_model(self) -> bool:
        """Whether anything is deblurred."""
        return self.results is None or (
            isinstance(self.benchmark, ErrorRatioBenchmark) and self.references is None
        )


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the subcommand and add its options."""
    parser.description = (
        "Deblur the images of a benchmark, or use given results, and score them by its protocol. "
        "Writes CSV and JSON for every image, and a Markdown table next to the paper's figures, if any."
    )
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    benchmarks = parser.add_subparsers(title="benchmarks", metavar="BENCHMARK", required=True)
    for name, benchmark in BENCHMARKS.items():
        summary = (type(benchmark).__doc__ or "").partition("\n")[0]
        child = benchmarks.add_parser(
            name, help=benchmark.title, description=f"{benchmark.title}: {summary} {benchmark.protocol}"
        )
        _add_options(child, benchmark)
        child.set_defaults(benchmark=benchmark)


def _add_options(parser: argparse.ArgumentParser, benchmark: Benchmark) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the data set's folder")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="folder for the scores: a new one, or that of a run to continue",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="score these images, named like the blurred ones, instead of deblurring",
    )
    what.add_argument(
        "--kernels",
        type=Path,
        metavar="DIR",
        help="remove these blur kernels, named like the blurred images, instead of estimating them",
    )
    parser.add_argument(
        "--rotate-kernels",
        action="store_true",
        help="with --kernels: rotate them by 180 degrees, for images correlated, not convolved, with them",
    )
    if isinstance(benchmark, ErrorRatioBenchmark):
        parser.add_argument(
            "--references",
            type=Path,
            metavar="DIR",
            help="with --results: that method's non-blind results with the true kernels, for its error "
            "ratios (default: the model's synthesis network with the true kernels)",
        )
    else:
        parser.set_defaults(references=None)
    parser.add_argument(
        "--save-images", action="store_true", help=f"keep the deblurred images in OUT/{IMAGES}, as PNG"
    )
    parser.add_argument(
        "--jobs",
        type=whole_number,
        metavar="N",
        help="images at a time (default: one per core, as memory allows); scores do not depend on it",
    )
    add_model_options(parser)
    add_scale_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate; 0, or 1 if an image could not be scored."""
    plan = _plan(arguments)
    deblurrer = load_deblurrer(arguments) if plan.uses_model else None
    identity = _identity(arguments, plan, deblurrer)
    measures = [measure.key for measure in plan.benchmark.measures]
    folder = RunFolder(arguments.output, identity, _fingerprints(plan), measures)
    images = arguments.output / IMAGES if arguments.save_images else None
    if images is not None:
        make_folder(images)
    results, references = _sources(arguments, plan, deblurrer, images)
    waiting = [
        case
        for case in plan.cases
        if folder.read(case.name) is None
        or (images is not None and not (images / f"{case.name}.png").exists())
    ]
    jobs = arguments.jobs or default_jobs(plan.largest_pixels)
    failed = 0
    with (
        closing(evaluate(plan.benchmark, waiting, results, folder, references=references, jobs=jobs)) as done,
        tqdm(
            total=len(plan.cases),
            initial=len(plan.cases) - len(waiting),
            desc="evaluating",
            unit="image",
            file=sys.stderr,
        ) as progress,
    ):
        for name, error in done:
            progress.update()
            if error is not None:
                failed += 1
                say(f"asnet: {name}: {error}")
    if failed:
        say(
            f"asnet: {failed} of {len(plan.cases)} images could not be scored, so there are no means; "
            "run the same command again to retry"
        )
        return 1
    _report(arguments, plan, folder, identity)
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    """Find all files.

    Raises
    ------
    InputError
        If any is missing or of the wrong size; the message names all of them.
    """
    benchmark: Benchmark = arguments.benchmark
    if arguments.references is not None and arguments.results is None:
        raise InputError(
            "--references needs --results: without them the same networks provide the references"
        )
    if arguments.rotate_kernels and arguments.kernels is None:
        raise InputError("--rotate-kernels needs --kernels")
    if arguments.save_images and arguments.results is not None:
        raise InputError("--save-images keeps deblurred images, but --results deblurs none")
    for folder in (arguments.data, arguments.results, arguments.kernels, arguments.references):
        if folder is not None and not folder.is_dir():
            raise InputError(f"there is no folder {folder}")
    inventory = Inventory()
    cases = benchmark.cases(arguments.data, inventory)

    def images(folder: Path | None) -> dict[str, Path] | None:
        if folder is None:
            return None
        found = {case.name: inventory.find(folder, case.name, RESULT_SUFFIXES) for case in cases}
        for case in cases:
            inventory.expect_size(found[case.name], case.blurred)
        return found

    results, references = images(arguments.results), images(arguments.references)
    kernels = None
    if arguments.kernels is not None:
        kernels = {case.name: benchmark.kernel_file(case, arguments.kernels, inventory) for case in cases}
    for note in inventory.check(benchmark.title):
        say(f"asnet: note: {note}")
    largest = max(inventory.pixels(case.blurred) for case in cases)
    return Plan(benchmark, cases, results, references, kernels, largest)


def _identity(arguments: argparse.Namespace, plan: Plan, deblurrer: Deblurrer | None) -> dict[str, Any]:
    """Identity of a run: everything that all scores depend on."""
    identity: dict[str, Any] = {"benchmark": plan.benchmark.name, "asnet": __version__}
    identity |= {what: None if files is None else "given" for what, files in plan.given.items()}
    identity["rotated kernels"] = arguments.rotate_kernels
    if deblurrer is not None:
        weights = find_weights(arguments.model)
        identity |= {
            "model": weights.stem,
            "weights": file_hash(weights),
            "dtype": arguments.dtype,
            "device": deblurrer.device.type,
            "scale": arguments.scale,
            "tile size": arguments.tile_size,
        }
    return identity


def _fingerprints(plan: Plan) -> dict[str, str]:
    """Fingerprints of the files of each case: a changed file invalidates its own score only."""
    given = [files for files in plan.given.values() if files is not None]
    return {case.name: fingerprint(case.files, [files[case.name] for files in given]) for case in plan.cases}


def _sources(
    arguments: argparse.Namespace, plan: Plan, deblurrer: Deblurrer | None, images: Path | None
) -> tuple[Source, Source | None]:
    """Sources of results and references."""
    references: Source | None = None
    if plan.references is not None:
        references = GivenResults(plan.references, plan.benchmark)
    elif isinstance(plan.benchmark, ErrorRatioBenchmark):
        assert deblurrer is not None
        true_kernel = plan.benchmark.true_kernel
        references = Deblurring(deblurrer, plan.benchmark, scale=arguments.scale, kernel=true_kernel)
    if plan.results is not None:
        return GivenResults(plan.results, plan.benchmark), references
    assert deblurrer is not None
    kernel = None if plan.kernels is None else partial(_given_kernel, plan.kernels, arguments.rotate_kernels)
    own = Deblurring(deblurrer, plan.benchmark, scale=arguments.scale, kernel=kernel, folder=images)
    return own, references


def _given_kernel(files: Mapping[str, Path], rotate: bool, case: Case) -> Tensor:
    kernel = read_kernel(files[case.name])
    return kernel.flip(0, 1) if rotate else kernel


def _report(
    arguments: argparse.Namespace, plan: Plan, folder: RunFolder, identity: Mapping[str, Any]
) -> None:
    """Write the tables and print the means."""
    read = {case.name: folder.read(case.name) for case in plan.cases}
    records = {name: record for name, record in read.items() if record is not None}
    method, notes = _description(arguments, identity)
    # These tell whether two evaluations are comparable.
    hashes = {"data": fingerprint(path for case in plan.cases for path in case.files)} | {
        what: fingerprint((), files.values()) for what, files in plan.given.items() if files is not None
    }
    run = {**identity, **hashes}
    means = write_tables(arguments.output, plan.benchmark, method, records, run, notes)
    print(f"{plan.benchmark.title}, {method}:")
    for measure in plan.benchmark.summary:
        print(f"  {measure.heading}: {measure.text(means[measure.key])}")
    print(f"tables in {arguments.output}")


def _description(arguments: argparse.Namespace, identity: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    """Name of the method in the tables, and notes on the origin of its figures."""
    model = f"asnet {identity.get('model')}"
    notes = []
    if "weights" in identity:
        tiles = f", tiles of {identity['tile size']} pixels" if identity["tile size"] else ""
        notes.append(
            f"Model: {model}, weights of SHA-256 {identity['weights'][:16]}..., {identity['dtype']} on "
            f"{identity['device']}, scale {identity['scale']}{tiles}."
        )
    if arguments.results is not None:
        name = arguments.results.resolve().name
        if arguments.references is not None:
            references = arguments.references.resolve().name
            notes.append(f"Results: the images in the folder {name}; references: those in {references}.")
        elif "weights" in identity:
            notes.append(
                f"Results: the images in the folder {name}; their references, however, come from the "
                f"synthesis network of {model} given the true blur kernels, not from the method's own "
                "non-blind part."
            )
        return name, notes
    if arguments.kernels is not None:
        name = arguments.kernels.resolve().name
        rotated = ", rotated by 180 degrees" if arguments.rotate_kernels else ""
        notes.append(f"Blur kernels: those of {name}{rotated}, removed by the synthesis network.")
        return f"{model} with the kernels of {name}", notes
    return model, notes
