"""What the command does with freed memory: training keeps it, everything else gives large blocks back."""

import subprocess
import sys

import pytest

_SCRIPT = """
import resource, sys, torch
from asnet.cli.main import give_memory_back, keep_memory
give_memory_back()
if sys.argv[1] == "keep":
    keep_memory()
torch.ones(6 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
# A little smaller: before 2.38, glibc finds no room for an aligned block in a free one of its own size.
torch.ones(5 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(policy: str) -> int:
    """Pages that the system gives anew to 20 MB after 24 MB were freed."""
    run = subprocess.run([sys.executable, "-c", _SCRIPT, policy], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the policy is set for glibc")
def test_training_keeps_freed_blocks_and_other_commands_give_them_back() -> None:
    kept, returned = faults("keep"), faults("give")
    # The system gives pages of 4 kB, or of 2 MB where it is set up so.
    assert kept < 100
    assert returned > max(kept, 5)
