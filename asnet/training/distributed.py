"""Several processes of one training run, as torchrun starts them.

Gradients are averaged in one all-reduce after the backward pass instead of through DistributedDataParallel:
the stages call methods other than `forward`, and losses and stop signals travel in the same reduction.
"""

import os
import sys
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from asnet.devices import resolve_device
from asnet.errors import DeviceError


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Parameters
    ----------
    rank : int
        Index of this process, from 0; process 0 writes files and reports.
    count : int
        Number of processes.
    local_rank : int
        Index among the processes of this machine: the GPU it uses.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    @staticmethod
    def join(device: str) -> "Processes":
        """Join the processes that torchrun started, or be the only one.

        Parameters
        ----------
        device : str
            "auto", "cpu", "cuda" or "cuda:0" ...: decides between the NCCL and the gloo backend.

        Raises
        ------
        DeviceError
            If the environment of torchrun is incomplete or distributed initialisation fails.
        """
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return Processes()
        on_gpu = device != "cpu" and torch.cuda.is_available()
        try:
            processes = Processes(
                int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0"))
            )
            if processes.count > 1 and not distributed.is_initialized():
                distributed.init_process_group("nccl" if on_gpu else "gloo")
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"distributed initialisation failed: {error}") from None
        return processes

    def device(self, name: str) -> torch.device:
        """Return the device of this process for "auto", "cpu", "cuda" or "cuda:0" ...

        Raises
        ------
        DeviceError
            If the name is not a device, or the device is not available.
        """
        device = resolve_device(name, default_index=self.local_rank)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        return device

    def average(self, parameters: list[torch.nn.Parameter], values: Tensor) -> Tensor:
        """Average the gradients, in place, and return the average of further values, in one reduction.

        Parameters
        ----------
        parameters : list of Parameter
            The same in every process; a missing gradient counts as 0.
        values : Tensor
            (V,), float32, on the device of the parameters.
        """
        if self.count == 1:
            return values
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), values])
        distributed.all_reduce(flat)
        flat /= self.count
        offset = 0
        for parameter, gradient in zip(parameters, gradients, strict=True):
            piece = flat[offset : offset + gradient.numel()]
            # Keeps the parameter's memory format, which `flatten` loses.
            parameter.grad = torch.empty_like(parameter).copy_(piece.view(gradient.shape))
            offset += gradient.numel()
        return flat[offset:]

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def leave(self) -> None:
        """Leave the process group if one was joined."""
        if self.count > 1 and distributed.is_initialized():
            # If a process leaves while another still communicates with it, gloo aborts the other one.
            if sys.exc_info()[0] is None:
                distributed.barrier()
            distributed.destroy_process_group()
