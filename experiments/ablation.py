"""Table 3 of the paper: the effect of guidance and of the training strategy, each row trained and scored.

Every row needs training runs, each in its own folder below OUTPUT in the format of `asnet train`, and is
scored with the last weights on the same photographs, blur kernels and noise as all others. Rows share runs:
the analysis network and the synthesis network with both terms of Eq. 1 are trained once. "Random
initialisation" has as many steps as the synthesis network and the joint stage together, at the synthesis
network's learning rate. The scale-optimised pairs run the joint stage on kernels of one class each, from the
same pre-trained networks as the general pair; a size classifier chooses between them (section 3.3).

    python experiments/ablation.py --data PHOTOGRAPHS --validation OTHERS --output FOLDER [--rows none both]

The reduced size (recipe `ablation`) takes about an hour on one CPU core. `--size full` trains the paper's
networks with the paper's schedule (recipe `paper`): weeks on a GPU. The same command continues an interrupted
run, and the table shows all finished rows in FOLDER.
"""

import argparse
import json
import math
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ablation_plan import CLASS_RUNS, GUIDANCE, ROWS, Row, planned_runs

from asnet.cli.main import INTERRUPTED
from asnet.data import Example, support_size
from asnet.errors import AsnetError, ConfigurationError
from asnet.networks import (
    DeblurNetwork,
    ScaleOptimisedNetworks,
    SizeClassifier,
    load_networks,
    load_weights_into,
    read_header,
)
from asnet.training import Processes, Stage, Trainer, TrainingConfig, make_examples, stage_table, validate
from asnet.training.checkpoint import load_checkpoint
from asnet.training.recipe_tables import merged, read_recipe
from asnet.training.trainer import CHECKPOINT, LAST
from asnet.training.validation import Validation

# Results are stored with those of the benchmarks.
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import measure

#: Recipe of each size.
RECIPES = {"reduced": "ablation", "full": "paper"}


class Ablation:
    """The training runs and the scores of one folder.

    Parameters
    ----------
    recipe : mapping
        Networks and schedule, with the folders of photographs `data` and `validation`.
    folder : Path
        Holds a folder for each run.
    device : str
        "auto", "cpu", "cuda" or "cuda:0" ...
    """

    def __init__(self, recipe: Mapping[str, Any], folder: Path, device: str) -> None:
        self.folder = folder
        self.device_name = device
        self.device = Processes().device(device)
        self.runs = planned_runs(recipe)
        self.validation = TrainingConfig.from_table("joint", stage_table(recipe, "joint"))
        # Made before any training, so that unusable photographs are reported at once.
        self.examples = make_examples(self.validation)
        if len(self.examples) < 2:
            raise ConfigurationError(
                f"differences need at least two photographs, {self.validation.validation} holds one"
            )

    def configuration(self, name: str) -> TrainingConfig:
        """Return the configuration of a run, without validation: it is scored here, at its end."""
        run = self.runs[name]
        start = {
            f"init_{part}": str(self.weights(other))
            for part, other in (("analysis", run.analysis_from), ("synthesis", run.synthesis_from))
            if other
        }
        return TrainingConfig.from_table(run.stage, merged(run.table, start, {"validation": ""}))

    def weights(self, name: str) -> Path:
        """The weights file of a finished run."""
        return self.folder / name / LAST

    def is_finished(self, name: str) -> bool:
        """Whether a run has done all its steps.

        Raises
        ------
        ConfigurationError
            If the run in the folder is of another recipe or on other photographs.
        """
        path = self.folder / name / CHECKPOINT
        if not path.exists():
            return False
        expected = self.configuration(name)
        _, state = load_checkpoint(path)
        if TrainingConfig.from_table(state["stage"], state["configuration"]) != expected:
            raise ConfigurationError(
                f"{path.parent} holds a run of another recipe or on other photographs: name another folder "
                "with --output"
            )
        return bool(state["validated_step"] == expected.total_steps)

    def train(self, name: str, stopping: Callable[[], bool], hours: float | None) -> bool:
        """Train a run, or the rest of it; False if it was stopped before its end."""
        if self.is_finished(name):
            return True
        print(f"training {name}", file=sys.stderr, flush=True)
        folder = self.folder / name
        resume = (folder / CHECKPOINT).exists()
        trainer = Trainer(self.configuration(name), folder, resume=resume, device=self.device_name)
        return trainer.run(stopping=stopping, hours=hours) == "finished"

    def score(self, row: Row) -> Validation:
        """Measure a row whose runs are finished."""
        if row.name == "scale":
            return self._scored_by_class()
        network = load_networks(self.weights(row.runs[-1]), DeblurNetwork, device=self.device)
        if row.name == "before":
            load_weights_into(network.analysis, self.weights("analysis"), prefix="analysis.")
        return self._validated("synthesis" if row.group == GUIDANCE else "joint", network, self.examples)

    def _scored_by_class(self) -> Validation:
        """Deblur each photograph with the pair of the class that the classifier assigns."""
        classifier = load_networks(self.weights("classifier"), SizeClassifier, device=self.device)
        pairs = [load_networks(self.weights(name), DeblurNetwork, device=self.device) for name in CLASS_RUNS]
        networks = ScaleOptimisedNetworks.join(classifier, pairs)
        with torch.inference_mode():
            chosen = [networks.classify(example.blurred.to(self.device)) for example in self.examples]
        sizes = torch.cat([support_size(example.kernel) for example in self.examples])
        true = classifier.config.classes_of(sizes).tolist()
        blind, told = self._validated_by_class(networks, chosen), self._validated_by_class(networks, true)
        right = torch.tensor(chosen) == torch.tensor(true)
        measures = {"accuracy": right.double(), "psnr_true_class": told.measures["psnr"]}
        return Validation(blind.names, blind.measures | measures, ())

    def _validated_by_class(self, networks: ScaleOptimisedNetworks, classes: list[int]) -> Validation:
        order, parts = [], []
        for index in sorted(set(classes)):
            members = [number for number, one in enumerate(classes) if one == index]
            order += members
            examples = [self.examples[number] for number in members]
            parts.append(self._validated("joint", networks.pair(index), examples))
        back = torch.tensor(order).argsort()
        measures = {
            name: torch.cat([part.measures[name] for part in parts])[back] for name in parts[0].measures
        }
        return Validation(tuple(example.name for example in self.examples), measures, ())

    def _validated(self, stage: Stage, network: DeblurNetwork, examples: list[Example]) -> Validation:
        full_precision = torch.autocast(self.device.type, enabled=False)
        result = validate(
            stage, network, examples, device=self.device, autocast=full_precision, processes=Processes()
        )
        assert result is not None
        return result

    def record(self, row: Row) -> dict[str, Any]:
        """Score a row whose runs are finished and return its record for the results file."""
        result = self.score(row)
        return {
            "name": row.name,
            "group": row.group,
            "label": row.label,
            "paper_psnr": row.paper,
            **result.means(),
            "runs": {name: self._run_record(name) for name in row.runs},
            "photographs": result.per_photograph(),
        }

    def _run_record(self, name: str) -> dict[str, Any]:
        config = self.configuration(name)
        return {
            "stage": config.stage,
            "steps": config.total_steps,
            "seconds": round(training_seconds(self.folder / name), 1),
            "weights": read_header(self.weights(name)).revision,
        }


def training_seconds(folder: Path) -> float:
    """Return the time of a run's steps from its log, without interruptions."""
    total, before = 0.0, 0
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["kind"] == "training":
            total += record["seconds_per_step"] * (record["step"] - before)
            before = record["step"]
    return total


def compare(records: Sequence[dict[str, Any]]) -> None:
    """Add to each record the difference of its PSNR from that of its group's reference, if available.

    Both are over the same photographs: `difference` is the mean of the differences in dB, `difference_error`
    its standard error.
    """
    found = {record["name"]: record["photographs"] for record in records}
    references = {row.name: row.reference for row in ROWS}
    for record in records:
        reference = references[record["name"]]
        if reference == record["name"] or reference not in found:
            continue
        gains = [
            values["psnr"] - found[reference][name]["psnr"] for name, values in record["photographs"].items()
        ]
        record["reference"] = reference
        record["difference"] = statistics.fmean(gains)
        record["difference_error"] = statistics.stdev(gains) / math.sqrt(len(gains))


def table(records: Sequence[dict[str, Any]], heading: str) -> str:
    """Return the rows next to the paper's as Markdown."""
    found = {record["name"]: record for record in records}
    paper = {row.name: row.paper for row in ROWS}
    lines = [heading, ""]
    for group in dict.fromkeys(row.group for row in ROWS):
        rows = [row for row in ROWS if row.group == group]
        reference = rows[0].reference
        label = next(row.label for row in rows if row.name == reference)
        lines += [
            f"| {group} | paper, dB | here, dB | over the blurred | against “{label}”: paper | here |",
            "|---|---|---|---|---|---|",
        ]
        for row in rows:
            difference = f"{row.paper - paper[reference]:+.2f}"
            if row.name not in found:
                lines.append(f"| {row.label} | {row.paper:.2f} | not run | | {difference} | |")
                continue
            record = found[row.name]
            own = ""
            if "difference" in record:
                own = f"{record['difference']:+.2f} ± {record['difference_error']:.2f}"
            gain = record["psnr"] - record["psnr_blurred"]
            lines.append(
                f"| {row.label} | {row.paper:.2f} | {record['psnr']:.2f} | {gain:+.2f} "
                f"| {difference if row.name != reference else ''} | {own} |"
            )
        lines.append("")
    return "\n".join(lines)


def report(ablation: Ablation, size: str) -> None:
    """Score every row whose runs are finished; write and print the table."""
    records = [ablation.record(row) for row in ROWS if all(map(ablation.is_finished, row.runs))]
    if not records:
        print(f"no row is finished in {ablation.folder}, so there is no table", file=sys.stderr)
        return
    compare(records)
    config = ablation.validation
    path = measure.save(
        f"ablation_{size}",
        records,
        recipe=RECIPES[size],
        photographs=len(ablation.examples),
        validation_crop=config.validation_crop,
        validation_seed=config.validation_seed,
        kernel_sizes=config.kernels.odd_sizes,
        noise=config.degradation.noise,
    )
    text = table(records, heading(size, json.loads(path.read_text())))
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def heading(size: str, content: Mapping[str, Any]) -> str:
    """Return the text above the table."""
    where = content["environment"]
    runs = {name: run for record in content["results"] for name, run in record["runs"].items()}
    minutes = sum(run["seconds"] for run in runs.values()) / 60
    smallest, largest = content["kernel_sizes"]
    return (
        f"# Ablation, {size} size\n\n"
        f"Table 3 of the paper, and the same rows as `experiments/ablation.py --size {size}` trained them "
        f"(recipe `{content['recipe']}`): {len(runs)} runs, {minutes:.0f} minutes of training, "
        f"torch {where['torch']}, {where.get('device', where['processor'])}, threads {where['threads']}, "
        f"revision {where['revision'][:12]}, {where['date']}. PSNR of {content['photographs']} validation "
        f"photographs, blurred by kernels of {smallest} to {largest} pixels; differences are means over the "
        "photographs with their standard errors. What is to be compared is the order of the rows: the "
        "figures are of other networks, kernels and photographs than the paper's."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train missing runs, score finished rows; 130 if interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs to train on")
    parser.add_argument("--validation", type=Path, required=True, help="folder of photographs to score on")
    parser.add_argument("--output", type=Path, required=True, help="folder of the training runs")
    parser.add_argument(
        "--size",
        choices=list(RECIPES),
        default="reduced",
        help="small networks for a CPU, or the paper's, for a GPU (default: reduced)",
    )
    parser.add_argument(
        "--rows", nargs="*", choices=[row.name for row in ROWS], help="train these alone; default: all"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--hours", type=float, help="stop after this many hours; the same command goes on")
    options = parser.parse_args(arguments)
    if options.hours is not None and not options.hours > 0:
        parser.error(f"--hours must be above 0, got {options.hours:g}")

    interrupted = threading.Event()
    previous = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        recipe = read_recipe(RECIPES[options.size])
        recipe |= {"data": str(options.data), "validation": str(options.validation)}
        ablation = Ablation(recipe, options.output, options.device)
        deadline = math.inf if options.hours is None else time.monotonic() + 3600 * options.hours
        chosen = [row for row in ROWS if options.rows is None or row.name in options.rows]
        for name in dict.fromkeys(name for row in chosen for name in row.runs):
            hours = None if options.hours is None else max(0.0, deadline - time.monotonic()) / 3600
            if not ablation.train(name, interrupted.is_set, hours):
                print(f"{name} is not finished; the same command goes on with it", file=sys.stderr)
                break
        report(ablation, options.size)
    except AsnetError as error:
        print(f"ablation: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, previous)
    return INTERRUPTED if interrupted.is_set() else 0


if __name__ == "__main__":
    sys.exit(main())
