"""The training loop."""

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from asnet.data.batches import BatchMaker, BatchSource
from asnet.data.examples import Example
from asnet.data.kernel_estimates import KernelEstimates
from asnet.data.photograph_pool import Photographs
from asnet.errors import ConfigurationError, InputError
from asnet.training.checkpoint import (
    load_checkpoint,
    module_tensors,
    optimiser_tensors,
    restore_module,
    restore_optimiser,
    save_checkpoint,
)
from asnet.training.distributed import Processes
from asnet.training.ema import ExponentialMovingAverage
from asnet.training.progress import Progress
from asnet.training.recipe import TrainingConfig
from asnet.training.replay import ReplayedBatches
from asnet.training.run_weights import load_initial_weights, source_revision, write_weights
from asnet.training.schedule import LearningRate
from asnet.training.stages import TrainedNetworks, new_network, stage_losses, trained_module
from asnet.training.teachers import batch_completion
from asnet.training.validation import CRITERIA, is_better, make_examples, validate
from asnet.training.visualisation import write_visualisation

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
LAST = "last.safetensors"
VISUALISATIONS = "visualisations"

#: Seconds between checkpoints: a killed run loses no more than this.
SECONDS_BETWEEN_CHECKPOINTS = 600.0

#: Why a run ended: all steps done, asked to stop, or the time limit reached.
Outcome = Literal["finished", "stopped", "out of time"]


def batch_source(
    config: TrainingConfig, processes: Processes | None = None, device: torch.device | str = "cpu"
) -> BatchSource:
    """Return where the batches of a run come from, for this process among those of the run."""
    processes = processes or Processes()
    return BatchSource(
        Photographs(config.data, device=device),
        config.kernels,
        config.degradation,
        batch_size=config.batch_size,
        crop=config.crop,
        seed=config.seed,
        halo=config.halo,
        wrong_share=config.wrong_kernel_share,
        estimates=KernelEstimates(config.kernel_estimates, canvas=config.kernels.canvas)
        if config.kernel_estimates
        else None,
        unblurred_share=config.unblurred_share,
        grey_share=config.grey_share,
        rank=processes.rank,
        world_size=processes.count,
    )


class Trainer:
    """One training run in its own folder.

    The folder contains "checkpoint.safetensors" (the complete state), "last.safetensors" and
    "best.safetensors" (weights of the whole pair, or of the classifier), "metrics.jsonl" and
    "visualisations" (a picture for each validation with images).

    Initial weights depend on the seed, and data on the seed, the step and the process. A resumed run is
    therefore bit-identical to an uninterrupted one.

    Parameters
    ----------
    config : TrainingConfig
        Configuration of the run.
    folder : Path
        The run's folder: new or empty, or, to resume, one with a checkpoint.
    resume : bool
        Continue from the checkpoint in `folder`.
    processes : Processes
        This process among those of the run.
    device : str
        "auto", "cpu", "cuda" or "cuda:0" ...
    source : BatchMaker, optional
        Makes the batches instead of a `BatchSource` on the photographs of `config.data`.

    Raises
    ------
    AsnetError
        If the folder, the data, the initial weights or the checkpoint cannot be used.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        *,
        resume: bool = False,
        processes: Processes | None = None,
        device: str = "auto",
        source: BatchMaker | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.processes = processes or Processes()
        self.device = self.processes.device(device)
        # Read now: the files may change while the run continues with the loaded code.
        self.source_revision = source_revision()
        if self.processes.leads and not resume:
            check_folder_is_free(folder)
        self.source: BatchMaker = source or batch_source(config, self.processes, self.device)
        self.examples: list[Example] = make_examples(config) if config.validation else []
        if config.deterministic:
            torch.use_deterministic_algorithms(True)

        self.network = self._new_network(with_initial_weights=not resume)
        if config.repeats > 1 or config.teachers:
            complete = batch_completion(config, self.network, self.device, self._autocast())
            self.source = ReplayedBatches(self.source, complete, repeats=config.repeats, seed=config.seed)
        self.trained = trained_module(config.stage, self.network)
        self.network.requires_grad_(False)
        self.trained.requires_grad_(True)
        self.names: dict[Tensor, str] = {weight: name for name, weight in self.trained.named_parameters()}
        self.parameters = list(self.trained.parameters())
        self.optimiser = torch.optim.Adam(self.parameters, lr=config.learning_rate, fused=True)
        self.learning_rate = LearningRate(
            config.schedule,
            config.learning_rate,
            config.total_steps,
            warmup_steps=config.warmup_steps,
            patience=config.patience,
            factor=config.factor,
        )
        # Validated and saved instead of the trained weights, if an average is kept.
        self.judged = copy.deepcopy(self.network) if config.ema_decay else self.network
        self.average = ExponentialMovingAverage(
            self.trained, trained_module(config.stage, self.judged), config.ema_decay
        )

        self.step = 0
        # -1: the initial networks are validated as well.
        self.validated_step = -1
        self.best: float | None = None
        self.loss_names: list[str] = []
        self.recent = torch.zeros(0, dtype=torch.float64, device=self.device)
        self.recent_steps = 0
        self.epoch_loss = torch.zeros((), dtype=torch.float64, device=self.device)
        if resume:
            self._restore()

    def _new_network(self, *, with_initial_weights: bool) -> TrainedNetworks:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            network = new_network(self.config.network)
        if with_initial_weights:
            load_initial_weights(network, self.config)
        network.to(self.device)
        if self.config.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def run(
        self,
        *,
        stopping: Callable[[], bool] = lambda: False,
        hours: float | None = None,
        tensorboard: bool = False,
    ) -> Outcome:
        """Train to the end of the run, until asked to stop, or for this many hours.

        In every case the folder then has a checkpoint of the last step.

        Parameters
        ----------
        stopping : callable
            Called before every step and every validation photograph; True stops the run.
        hours : float, optional
            Time limit of this call.
        tensorboard : bool
            Write TensorBoard events as well.

        Raises
        ------
        ConfigurationError
            If the loss is no longer finite, or TensorBoard is requested and missing.
        """
        deadline = None if hours is None else time.monotonic() + 3600 * hours
        if self.processes.leads:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot make the folder {self.folder}: {error.strerror}") from None
        total = self.config.total_steps
        with Progress(
            self.folder, total, step=self.step, quiet=not self.processes.leads, tensorboard=tensorboard
        ) as progress:
            self._save()
            saved = time.monotonic()
            while True:
                if self.validation_is_due and not self._end_epoch(progress, stopping):
                    self._save()
                    return "stopped"
                if self.step >= total:
                    return "finished"
                late = deadline is not None and time.monotonic() >= deadline
                stop_asked = self._step(stopping(), late, progress)
                if stop_asked is not None:
                    self._save()
                    return stop_asked
                if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                    self._save()
                    saved = time.monotonic()

    @property
    def validation_is_due(self) -> bool:
        """Whether the run is at the end of an epoch, or at its start, without a validation yet."""
        return self.step % self.config.steps_per_epoch == 0 and self.validated_step != self.step

    def _step(self, stop: bool, late: bool, progress: Progress) -> Outcome | None:
        """Do one step; return how the run ends if any process requested it."""
        config = self.config
        rate = self.learning_rate.at(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = self.source.batch(self.step)
        if config.channels_last:
            batch = batch._replace(
                blurred=batch.blurred.contiguous(memory_format=torch.channels_last),
                sharp=batch.sharp.contiguous(memory_format=torch.channels_last),
            )
        self.optimiser.zero_grad(set_to_none=True)
        losses = stage_losses(config, self.network, batch, self._autocast())
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        self.loss_names = list(losses)
        signals = torch.tensor([float(stop), float(late)], device=self.device)
        values = torch.cat([torch.stack([value.detach().float() for value in losses.values()]), signals])
        values = self.processes.average(self.parameters, values)
        if config.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.parameters, config.gradient_clip)
        self.optimiser.step()
        self.step += 1
        self.average.update(self.step)
        if self.recent_steps == 0:
            self.recent = torch.zeros(len(losses), dtype=torch.float64, device=self.device)
        self.recent += values[:-2]
        self.recent_steps += 1
        self.epoch_loss += values[self.loss_names.index("loss")]
        progress.advance()
        if self.step % config.log_every == 0 or self.step % config.steps_per_epoch == 0:
            self._report(progress, rate)
        if self.processes.count > 1:
            # All processes stop in the same step, so that none waits for another.
            stop, late = (bool(signal) for signal in values[-2:] > 0)
        return "stopped" if stop else "out of time" if late else None

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def _report(self, progress: Progress, rate: float) -> None:
        means = (self.recent / self.recent_steps).tolist()
        self._check_finite()
        progress.steps(self.step, {**dict(zip(self.loss_names, means, strict=True)), "learning_rate": rate})
        self.recent_steps = 0

    def _check_finite(self) -> None:
        if not bool(torch.isfinite(self.epoch_loss)):
            raise ConfigurationError(
                f"the loss is no longer finite at step {self.step}: lower learning_rate or set gradient_clip "
                f"and continue from {self.folder / CHECKPOINT} with --resume"
            )

    def _end_epoch(self, progress: Progress, stopping: Callable[[], bool]) -> bool:
        """Validate, save, update the learning rate; False if stopped before that was done."""
        config = self.config
        epoch = self.step // config.steps_per_epoch
        if self.examples and (epoch % config.validate_every == 0 or self.step == config.total_steps):
            result = validate(
                config.stage,
                self.judged,
                self.examples,
                device=self.device,
                autocast=self._autocast(),
                processes=self.processes,
                stopping=stopping,
            )
            if result is None:
                return False
            means = result.means()
            progress.validation(self.step, means, result.per_photograph())
            if self.processes.leads and result.pictures:
                (self.folder / VISUALISATIONS).mkdir(exist_ok=True)
                write_visualisation(
                    self.folder / VISUALISATIONS / f"step-{self.step:08d}.png", result.pictures
                )
            if is_better(means[CRITERIA[config.stage]], self.best):
                self.best = means[CRITERIA[config.stage]]
                self._write_weights(BEST, means)
        if self.step > 0:
            self._write_weights(LAST, {})
            self.learning_rate.epoch_ended(float(self.epoch_loss) / config.steps_per_epoch)
        self.epoch_loss.zero_()
        self.validated_step = self.step
        self._save()
        return True

    def _write_weights(self, name: str, measures: dict[str, float]) -> None:
        if self.processes.leads:
            write_weights(
                self.folder / name,
                self.judged,
                self.config,
                source=self.source_revision,
                step=self.step,
                measures=measures,
            )

    def _save(self) -> None:
        if not self.processes.leads:
            return
        self._check_finite()
        tensors = {
            **module_tensors(self.network, "network."),
            **optimiser_tensors(self.optimiser, self.names),
            "recent": self.recent,
            "epoch_loss": self.epoch_loss,
        }
        if self.judged is not self.network:
            tensors |= module_tensors(self.judged, "ema.")
        state: dict[str, Any] = {
            "stage": self.config.stage,
            "configuration": self.config.to_table(),
            "step": self.step,
            "validated_step": self.validated_step,
            "best": self.best,
            "loss_names": self.loss_names,
            "recent_steps": self.recent_steps,
            "learning_rate": self.learning_rate.state(),
        }
        save_checkpoint(self.folder / CHECKPOINT, tensors, state)

    def _restore(self) -> None:
        path = self.folder / CHECKPOINT
        tensors, state = load_checkpoint(path)
        if state["stage"] != self.config.stage:
            raise InputError(
                f"{path} belongs to the {state['stage']} stage, not to the {self.config.stage} stage"
            )
        restore_module(self.network, "network.", tensors, path)
        if self.judged is not self.network:
            restore_module(self.judged, "ema.", tensors, path)
        restore_optimiser(self.optimiser, self.names, tensors)
        self.learning_rate.restore(state["learning_rate"])
        self.step = state["step"]
        self.validated_step = state["validated_step"]
        self.best = state["best"]
        self.loss_names = state["loss_names"]
        self.recent_steps = state["recent_steps"]
        self.recent = tensors["recent"].to(self.device)
        self.epoch_loss = tensors["epoch_loss"].to(self.device)


def check_folder_is_free(folder: Path) -> None:
    """Raise `InputError` unless the folder is empty or missing."""
    if folder.is_file():
        raise InputError(f"the run's folder {folder} is a file")
    if folder.is_dir() and any(folder.iterdir()):
        what = "holds a run already" if (folder / CHECKPOINT).exists() else "is not empty"
        raise InputError(f"the folder {folder} {what}: continue with --resume or name another folder")


def saved_table(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the stage and the configuration's table of the run in `folder`.

    Raises
    ------
    WeightsError
        If there is no checkpoint or it is damaged.
    """
    _, state = load_checkpoint(folder / CHECKPOINT)
    return state["stage"], state["configuration"]
