"""Jobs of the server: a bounded queue, one worker, and temporary results."""

import logging
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch.overrides import TorchFunctionMode

from asnet.deblurring.deblurrer import Progress
from asnet.errors import AsnetError, is_out_of_memory
from asnet.web.deblurring import DeblurRequest, Outcome

State = Literal["waiting", "running", "done", "failed", "cancelled"]
Stage = Literal["estimating", "restoring"]

#: Number of finished jobs whose files are kept, and for how many seconds.
KEPT_JOBS = 16
KEPT_SECONDS = 600

_log = logging.getLogger(__name__)


class QueueFullError(AsnetError):
    """The queue is full."""


class UnknownJobError(AsnetError):
    """There is no such job, or not any more."""


class _CancelledError(Exception):
    """Ends a job that was cancelled."""


class _Cancellable(TorchFunctionMode):
    """Ends a cancelled job before its next operation on a tensor: an estimate reports no progress."""

    def __init__(self, job: "Job") -> None:
        super().__init__()
        self._job = job
        self._ended = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        # Only once: cleaning up on the way out may need operations.
        if self._job.state == "cancelled" and not self._ended:
            self._ended = True
            raise _CancelledError
        return func(*args, **(kwargs or {}))


@dataclass(eq=False)
class Job:
    """One request and its progress; only the queue changes it.

    Parameters
    ----------
    request : DeblurRequest
        The request; the folder of its photograph is deleted with the job.
    previews : bool
        See `deblur_upload`.
    """

    request: DeblurRequest
    previews: bool
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: State = "waiting"
    stage: Stage | None = None
    share: float = 0.0
    message: str | None = None
    outcome: Outcome | None = None
    ended: float | None = None


class JobQueue:
    """Processes jobs in turn in its own thread.

    Parameters
    ----------
    process : callable
        Does the work of a job; the progress function that it is given raises once the job is cancelled.
    capacity : int
        Jobs that may wait while one is running.
    """

    def __init__(self, process: Callable[[Job, Progress], Outcome], capacity: int) -> None:
        self._process = process
        self._capacity = capacity
        # Its lock is reentrant.
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="asnet-deblurring", daemon=True)
        self._thread.start()

    def check_room(self) -> None:
        """Raise `QueueFullError` if no further job may wait."""
        with self._changed:
            if self._closed or len(self._waiting) >= self._capacity:
                raise QueueFullError(
                    f"{len(self._waiting)} photographs are waiting already; try again when one is done"
                )

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises
        ------
        QueueFullError
            If no further job may wait.
        """
        with self._changed:
            self.check_room()
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._changed.notify()

    def get(self, identifier: str) -> Job:
        """Return a job.

        Raises
        ------
        UnknownJobError
            If there is none of that identifier.
        """
        with self._changed:
            self._forget_old()
            if identifier not in self._jobs:
                raise UnknownJobError("there is no such job, or its files have been deleted")
            return self._jobs[identifier]

    def position(self, job: Job) -> int | None:
        """Return the number of jobs before this one; None if it is not waiting."""
        with self._changed:
            if job not in self._waiting:
                return None
            return self._waiting.index(job) + any(other.state == "running" for other in self._jobs.values())

    def discard(self, identifier: str) -> None:
        """Cancel a job, if it exists and has not ended, and delete its files."""
        with self._changed:
            job = self._jobs.pop(identifier, None)
            if job is None:
                return
            running = job.state == "running"
            if job in self._waiting:
                self._waiting.remove(job)
            if job.ended is None:
                self._end(job, "cancelled")
        if not running:
            # The worker deletes the files of the running job.
            _delete_files(job)

    def stop(self) -> None:
        """Cancel all jobs and accept no more."""
        with self._changed:
            self._closed = True
            for identifier in list(self._jobs):
                self.discard(identifier)
            self._changed.notify()

    def close(self) -> None:
        """Stop, and wait for the worker: a thread that outlives the interpreter would crash the process."""
        self.stop()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._forget_old()
                    self._changed.wait(timeout=KEPT_SECONDS / 10)
                if self._closed:
                    return
                job = self._waiting.popleft()
                job.state = "running"
            self._run(job)

    def _run(self, job: Job) -> None:
        def report(stage: Stage, share: float) -> None:
            if job.state == "cancelled":
                raise _CancelledError
            job.stage, job.share = stage, share

        outcome, message = None, None
        try:
            with _Cancellable(job):
                outcome = self._process(job, report)
        except _CancelledError:
            pass
        except AsnetError as error:
            message = _without_paths(str(error), job.request)
        except Exception as error:
            if is_out_of_memory(error):
                message = "there is not enough memory for this photograph"
            else:
                _log.exception("deblurring failed")
                message = "deblurring failed unexpectedly; see the server's log"
        with self._changed:
            if job.state == "cancelled":
                _delete_files(job)
                return
            job.outcome, job.message = outcome, message
            if outcome is None:
                _delete_files(job)
            self._end(job, "failed" if outcome is None else "done")
            self._forget_old()

    def _end(self, job: Job, state: State) -> None:
        job.state, job.ended = state, time.monotonic()

    def _forget_old(self) -> None:
        ended = [job for job in self._jobs.values() if job.ended is not None]
        ended.sort(key=lambda job: job.ended or 0)
        oldest = time.monotonic() - KEPT_SECONDS
        for place, job in enumerate(ended):
            if place < len(ended) - KEPT_JOBS or (job.ended or 0) < oldest:
                del self._jobs[job.id]
                _delete_files(job)


def _delete_files(job: Job) -> None:
    shutil.rmtree(job.request.photograph.parent, ignore_errors=True)


def _without_paths(message: str, request: DeblurRequest) -> str:
    """Return a message that names what the user uploaded, not where the server keeps it."""
    message = message.replace(str(request.photograph), request.name)
    if isinstance(request.kernel, Path):
        message = message.replace(str(request.kernel), "the uploaded kernel")
    return message.replace(f"{request.photograph.parent}/", "")
