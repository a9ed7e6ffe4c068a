"""``asnet train``: train the networks on a folder of photographs."""

import argparse
import inspect
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, get_args, get_origin

from asnet.cli.main import INTERRUPTED, keep_memory
from asnet.data.blur_kernels import BlurKernelConfig
from asnet.data.degradation import DegradationConfig
from asnet.errors import ConfigurationError
from asnet.fields import convert, field_types
from asnet.training.distributed import Processes
from asnet.training.recipe import TABLES, TRAINABLE, Stage, TrainingConfig, recipe_stages, stage_table
from asnet.training.recipe_tables import merged, parse_assignment, read_recipe
from asnet.training.trainer import BEST, CHECKPOINT, LAST, Outcome, Trainer, saved_table

#: Command-line prefix of the fields of each recipe table that has its own dataclass.
TABLE_OPTIONS: dict[str, tuple[str, type]] = {
    "kernels": ("kernel", BlurKernelConfig),
    "degradation": ("degradation", DegradationConfig),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the subcommand and add its options."""
    parser.usage = "asnet train STAGE --data FOLDER --output FOLDER [options]"
    parser.description = (
        "Train the analysis network, the synthesis network, both end to end, or all three in turn; "
        "or the size classifier that chooses between pairs for several sizes of blur. "
        "Values come from the recipe (--config) and from the options below, which take precedence. "
        "The defaults are the paper's schedule."
    )
    parser.add_argument(
        "stage", choices=[*TRAINABLE, "all"], help="what to train; all: analysis, synthesis, joint"
    )
    parser.add_argument(
        "--config",
        metavar="RECIPE",
        help="a recipe that comes with asnet (compact, paper, ...), or a TOML file with any of the options",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", required=True, help="the run's folder")
    parser.add_argument("--resume", action="store_true", help="continue the run in the folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--hours", type=_positive, help="stop after this many hours; continue with --resume")
    parser.add_argument(
        "--tensorboard", action="store_true", help="write TensorBoard events to the run's folder too"
    )
    schedule = parser.add_argument_group("schedule, data and networks")
    for name, annotation in field_types(TrainingConfig).items():
        if name != "stage" and name not in TABLES:
            _add_option(schedule, name, name.replace("_", "-"), annotation, TrainingConfig)
    schedule.add_argument(
        "--network",
        action="append",
        default=[],
        type=_assignment,
        metavar="FIELD=VALUE",
        help="a field of the network configuration, such as synthesis.channels=[16,32]; may be repeated",
    )
    for table, (prefix, configuration) in TABLE_OPTIONS.items():
        group = parser.add_argument_group(table)
        for name, annotation in field_types(configuration).items():
            option = f"{prefix}-{name.replace('_', '-')}"
            _add_option(group, f"{table}.{name}", option, annotation, configuration)


def run(arguments: argparse.Namespace) -> int:
    """Train; 0 at the end of the run or of the time limit, 130 if interrupted."""
    keep_memory()
    recipe = {} if arguments.config is None else read_recipe(arguments.config)
    processes = Processes.join(arguments.device)
    try:
        if arguments.stage == "all":
            return _run_all(arguments, recipe, processes)
        stage, folder = arguments.stage, arguments.output
        outcome = _run_stage(arguments, recipe, processes, stage, folder, {}, arguments.hours)
        return INTERRUPTED if outcome == "stopped" else 0
    finally:
        processes.leave()


def _run_all(arguments: argparse.Namespace, recipe: dict[str, Any], processes: Processes) -> int:
    """Train analysis, synthesis, then both end to end from their results, in subfolders of the output."""
    started = time.monotonic()
    output: Path = arguments.output
    stages = recipe_stages(recipe)
    for stage in stages:
        initial: dict[str, Any] = {}
        if stage == "joint":
            initial = {f"init_{part}": str(_weights(output / part)) for part in stages if part != "joint"}
        hours = arguments.hours
        if hours is not None:
            hours = max(0.0, hours - (time.monotonic() - started) / 3600)
        outcome = _run_stage(arguments, recipe, processes, stage, output / stage, initial, hours)
        if outcome != "finished":
            return INTERRUPTED if outcome == "stopped" else 0
    return 0


def _weights(folder: Path) -> Path:
    """The best weights of a finished run, or the last ones if it was not validated."""
    best = folder / BEST
    return best if best.exists() else folder / LAST


def _run_stage(
    arguments: argparse.Namespace,
    recipe: dict[str, Any],
    processes: Processes,
    stage: Stage,
    folder: Path,
    initial: dict[str, Any],
    hours: float | None,
) -> Outcome:
    resume = arguments.resume
    if arguments.stage == "all":
        # Later stages of an interrupted run do not exist yet.
        resume = resume and (folder / CHECKPOINT).exists()
    tables = [initial]
    if resume:
        saved_stage, saved = saved_table(folder)
        if saved_stage != stage:
            raise ConfigurationError(
                f"{folder} holds a run of the {saved_stage} stage, not of the {stage} stage"
            )
        tables.append(saved)
    tables += [stage_table(recipe, stage), _options(arguments)]
    config = TrainingConfig.from_table(stage, merged(*tables))
    trainer = Trainer(config, folder, resume=resume, processes=processes, device=arguments.device)
    with _StopSignal(insist=processes.count == 1) as signals:
        outcome = trainer.run(stopping=signals.asked, hours=hours, tensorboard=arguments.tensorboard)
    if processes.leads:
        if outcome == "finished":
            print(f"{stage} stage done: weights in {_weights(folder)}", file=sys.stderr)
        else:
            again = f"asnet train {stage} --output {folder} --resume"
            if arguments.stage == "all":
                again = "the same command and --resume"
            print(f"{stage} stage {outcome} at step {trainer.step}; continue with: {again}", file=sys.stderr)
    return outcome


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of the command line as a table of a recipe."""
    table: dict[str, Any] = {}
    given = vars(arguments)
    for field in fields(TrainingConfig):
        if field.name not in ("stage", *TABLES) and field.name in given:
            table[field.name] = given[field.name]
    for name, (_, configuration) in TABLE_OPTIONS.items():
        keys = [field.name for field in fields(configuration) if f"{name}.{field.name}" in given]
        table[name] = {key: given[f"{name}.{key}"] for key in keys}
    table["network"] = merged(*arguments.network)
    return table


def _add_option(
    group: "argparse._ArgumentGroup", destination: str, option: str, annotation: Any, configuration: type
) -> None:
    name = destination.rsplit(".", 1)[-1]
    default = next(field.default for field in fields(configuration) if field.name == name)
    description = _descriptions(configuration)[name].replace("%", "%%")
    if isinstance(default, (int, float, str, tuple)) and default not in ("", ()):
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        description += f" (default: {shown})"
    options: dict[str, Any] = {"dest": destination, "default": argparse.SUPPRESS, "help": description}
    if annotation is bool:
        group.add_argument(f"--{option}", action=argparse.BooleanOptionalAction, **options)
    else:
        choices = get_args(annotation) if get_origin(annotation) is Literal else ()
        metavar = "{" + ",".join(map(str, choices)) + "}" if choices else "VALUE"
        group.add_argument(
            f"--{option}", type=_converter(annotation, f"--{option}"), metavar=metavar, **options
        )


def _converter(annotation: Any, option: str) -> Callable[[str], Any]:
    def converted(text: str) -> Any:
        try:
            return convert(annotation, text, option)
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return converted


def _assignment(text: str) -> dict[str, Any]:
    try:
        return parse_assignment(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def _descriptions(configuration: type) -> dict[str, str]:
    """Descriptions of the fields, from the section "Parameters" of the docstring."""
    text = inspect.cleandoc(configuration.__doc__ or "")
    section = text.partition("Parameters\n----------\n")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", section):
        heading, _, body = entry.partition("\n")
        words = " ".join(line.strip() for line in body.splitlines())
        for name in heading.partition(" : ")[0].split(","):
            found[name.strip()] = words.replace("`", "").rstrip(".")
    return found


class _StopSignal:
    """Defers the first SIGINT or SIGTERM to the end of the step; the second SIGINT interrupts.

    Parameters
    ----------
    insist : bool
        Whether a second SIGINT interrupts at once. torchrun may forward one that the terminal also sent.
    """

    def __init__(self, *, insist: bool) -> None:
        self._insist = insist
        self._asked = False
        self._previous: dict[signal.Signals, Any] = {}

    def asked(self) -> bool:
        """Whether a signal has arrived."""
        return self._asked

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._asked and self._insist and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True

    def __enter__(self) -> "_StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
