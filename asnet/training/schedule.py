"""Learning rate over the steps of a run."""

import math
from typing import Any, Literal

Schedule = Literal["plateau", "cosine", "constant"]

#: An epoch counts as an improvement if its loss falls by more than this share; less is noise of the batches.
IMPROVEMENT = 1e-4


class LearningRate:
    """Learning rate of a step: warm-up, then the schedule.

    Parameters
    ----------
    schedule : {"plateau", "cosine", "constant"}
        "plateau": multiply by `factor` whenever the mean loss of an epoch has not improved over `patience`
        epochs (section 4: 20 % after 5 epochs). "cosine": half a cosine from `base` at the end of the warm-up
        to 0 at `total_steps`. "constant": `base`.
    base : float
        The learning rate before any reduction, > 0.
    total_steps : int
        Steps of the whole run.
    warmup_steps : int
        Steps over which the rate rises linearly to `base`.
    patience : int
        Epochs without improvement before "plateau" reduces the rate.
    factor : float
        Factor of that reduction, between 0 and 1.
    """

    def __init__(
        self,
        schedule: Schedule,
        base: float,
        total_steps: int,
        *,
        warmup_steps: int = 0,
        patience: int = 5,
        factor: float = 0.8,
    ) -> None:
        self.schedule = schedule
        self.base = base
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.patience = patience
        self.factor = factor
        self.best_loss: float | None = None
        self.stagnating_epochs = 0
        self.reductions = 0

    def at(self, step: int) -> float:
        """Return the learning rate of the step with this index, from 0."""
        if step < self.warmup_steps:
            return self.base * (step + 1) / (self.warmup_steps + 1)
        if self.schedule == "cosine":
            share = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
            return self.base * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
        return self.base * self.factor**self.reductions

    def epoch_ended(self, loss: float) -> None:
        """Record an epoch's mean training loss."""
        if self.schedule != "plateau":
            return
        if self.best_loss is None or loss < self.best_loss - abs(self.best_loss) * IMPROVEMENT:
            self.best_loss = loss
            self.stagnating_epochs = 0
            return
        self.stagnating_epochs += 1
        if self.stagnating_epochs >= self.patience:
            self.reductions += 1
            self.stagnating_epochs = 0

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, as JSON values."""
        return {
            "best_loss": self.best_loss,
            "stagnating_epochs": self.stagnating_epochs,
            "reductions": self.reductions,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the result of `state`."""
        self.best_loss = state["best_loss"]
        self.stagnating_epochs = state["stagnating_epochs"]
        self.reductions = state["reductions"]
