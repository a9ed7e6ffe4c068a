"""Damaged files of every kind give a result or one sentence, in little time and memory."""

import subprocess
import sys
from pathlib import Path


def test_damaged_files_give_a_result_or_a_sentence() -> None:
    # In a separate process, which a decoder may crash and whose memory can be limited.
    program = Path(__file__).with_name("mutated_files.py")
    command = [sys.executable, str(program), "--count", "300"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr[-2000:]
    assert finished.stdout.startswith("300 damaged files from seed 0, 0 failures")
