"""Progress of a training run: a bar or plain lines, a JSON Lines log, optionally TensorBoard."""

import json
import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

from asnet.errors import ConfigurationError, WeightsError
from asnet.files import atomic_write


class Progress:
    """Reports of one run.

    Parameters
    ----------
    folder : Path
        The run's folder; "metrics.jsonl" there is appended to.
    total_steps, step : int
        Length of the run, and steps already done.
    quiet : bool
        Report nothing and write nothing: for all processes but the first.
    tensorboard : bool
        Write TensorBoard events to "tensorboard" in the folder.
    stream : TextIO
        Output of bar and lines; a bar is drawn only on a terminal.

    Raises
    ------
    ConfigurationError
        If TensorBoard is requested and not installed.
    WeightsError
        If "metrics.jsonl" cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        total_steps: int,
        *,
        step: int = 0,
        quiet: bool = False,
        tensorboard: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self.quiet = quiet
        self.total_steps = total_steps
        self.stream = stream or sys.stderr
        self.events = None
        self.bar: tqdm[Any] | None = None
        self.log: TextIO | None = None
        self._last_seconds = time.monotonic()
        self._last_step = step
        self._validated = ""
        if quiet:
            return
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise ConfigurationError(
                    "TensorBoard is not installed; install the package tensorboard or leave out --tensorboard"
                ) from None
            self.events = SummaryWriter(str(folder / "tensorboard"))
        path = folder / "metrics.jsonl"
        _cut_log(path, step)
        try:
            self.log = path.open("a", encoding="utf-8")
        except OSError as error:
            raise WeightsError(f"cannot write {path}: {error.strerror}") from None
        if self.stream.isatty():
            self.bar = tqdm(
                total=total_steps, initial=step, unit="step", file=self.stream, dynamic_ncols=True
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.log is not None:
            self.log.close()
        if self.events is not None:
            self.events.close()

    def advance(self) -> None:
        """Count one step."""
        if self.bar is not None:
            self.bar.update()

    def steps(self, step: int, values: dict[str, float]) -> None:
        """Report the values (losses, learning rate) of the steps since the last report."""
        if self.quiet:
            return
        now = time.monotonic()
        seconds = (now - self._last_seconds) / max(1, step - self._last_step)
        self._last_seconds, self._last_step = now, step
        self._write({"kind": "training", "step": step, **values, "seconds_per_step": round(seconds, 4)})
        text = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
        if self.bar is not None:
            self.bar.set_postfix_str(f"{text}{self._validated}")
        else:
            self._line(f"step {step}/{self.total_steps}: {text}, {seconds:.3g} s a step")

    def validation(
        self, step: int, means: dict[str, float], photographs: dict[str, dict[str, float]]
    ) -> None:
        """Report the means and the values of each photograph."""
        if self.quiet:
            return
        self._write({"kind": "validation", "step": step, **means, "photographs": photographs})
        texts = {name: _measured(name, value) for name, value in means.items()}
        # The bar shows the newest of these beside the loss.
        shown = [texts[name] for name in ("psnr", "kernel_similarity", "accuracy") if name in texts]
        self._validated = "; validation: " + ", ".join(shown)
        self.say(f"validation at step {step}: {', '.join(texts.values())}")
        # The time of validation does not count.
        self._last_seconds = time.monotonic()

    def say(self, sentence: str) -> None:
        """Print a line without disturbing the bar."""
        if self.quiet:
            return
        if self.bar is not None:
            self.bar.write(sentence, file=self.stream)
        else:
            self._line(sentence)

    def _line(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def _write(self, record: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(json.dumps(_finite(record), allow_nan=False) + "\n")
            self.log.flush()
        if self.events is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    self.events.add_scalar(f"{record['kind']}/{name}", value, record["step"])


def _measured(name: str, value: float) -> str:
    text = f"{name.replace('_', ' ').replace('psnr', 'PSNR').replace('wiener', 'Wiener')} {value:.2f}"
    return f"{text} dB" if name.startswith("psnr") else text


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by null."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _cut_log(path: Path, step: int) -> None:
    """Drop records of steps after `step`, from which the run continues and writes them again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed
        if record.get("step", 0) <= step:
            kept.append(line + "\n")
    with atomic_write(path, WeightsError) as partial:
        partial.write_text("".join(kept), encoding="utf-8")
