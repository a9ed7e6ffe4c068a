"""Tiny photographs and networks on which a training step takes milliseconds."""

from pathlib import Path
from typing import Any

import pytest
from random_pictures import write_pictures

KERNEL_SIZE = 7


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three smooth random pictures with sharp edges, 56x48 pixels."""
    folder = tmp_path_factory.mktemp("photographs")
    write_pictures(folder, coarse=(7, 6), size=(56, 48))
    return folder


@pytest.fixture
def table(photographs: Path) -> dict[str, Any]:
    """A recipe's table for a run of 6 tiny steps in 3 epochs."""
    return {
        "data": str(photographs),
        "validation": str(photographs),
        "validation_count": 2,
        "model": "paper",
        "network": {
            "analysis": {
                "kernel_size": KERNEL_SIZE,
                "levels": 2,
                "feature_channels": 4,
                "feature_layers": 1,
                "feature_size": 3,
                "correlation_channels": 3,
                "reduced_channels": 4,
                "head_channels": [4],
            },
            "synthesis": {
                "kernel_size": KERNEL_SIZE,
                "channels": [4, 6],
                "convolutions_per_block": 1,
                "guide_hidden": 8,
            },
        },
        "epochs": 3,
        "steps_per_epoch": 2,
        "batch_size": 2,
        "crop": 24,
        "learning_rate": 1e-3,
        "log_every": 1,
    }
