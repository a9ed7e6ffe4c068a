"""Batches that serve several steps, deconvolved once."""

from collections.abc import Callable

from asnet.data.batches import Batch, BatchMaker
from asnet.data.random_numbers import seed_of

#: A batch comes back within this many batches; as many are kept in memory.
POOL = 40


class ReplayedBatches:
    """Uses each batch for several steps.

    Blurring a batch and deconvolving it takes longer than a step of a small U-Net. The first of every
    `repeats` steps gets a new batch, the others one of the latest `POOL`, chosen at random.

    Parameters
    ----------
    source : BatchMaker
        Makes the batches.
    complete : callable
        Adds to a new batch what steps have in common, such as `Batch.prepared`.
    repeats : int
        Steps for each new batch, 1 or more.
    seed : int
        Seed of the choice.

    Examples
    --------
    >>> class Source:
    ...     def batch(self, index):
    ...         return f"batch {index}"
    >>> batches = ReplayedBatches(Source(), str.upper, repeats=2, seed=0)
    >>> [batches.batch(step) for step in range(4)]
    ['BATCH 0', 'BATCH 0', 'BATCH 1', 'BATCH 0']
    """

    def __init__(
        self, source: BatchMaker, complete: Callable[[Batch], Batch], *, repeats: int, seed: int
    ) -> None:
        self._source = source
        self._complete = complete
        self._repeats = repeats
        self._seed = seed
        self._kept: dict[int, Batch] = {}

    def batch(self, index: int) -> Batch:
        """Return the batch of step `index`, always the same for the same index."""
        latest, repeat = divmod(index, self._repeats)
        back = seed_of(self._seed, index, "replay") % min(latest + 1, POOL) if repeat else 0
        number = latest - back
        if number not in self._kept:
            # A resumed run makes the batches again that it had kept.
            self._kept[number] = self._complete(self._source.batch(number))
        chosen = self._kept[number]
        self._kept = {kept: batch for kept, batch in self._kept.items() if kept > latest - POOL}
        return chosen
