"""Tiny photographs and networks on which a training step takes milliseconds."""

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

KERNEL_SIZE = 7


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three smooth random pictures with sharp edges, 56x48 pixels."""
    folder = tmp_path_factory.mktemp("photographs")
    generator = torch.Generator().manual_seed(0)
    for index in range(3):
        coarse = torch.rand(1, 3, 7, 6, generator=generator)
        picture = torch.nn.functional.interpolate(coarse, size=(56, 48), mode="nearest")[0]
        pixels = (picture * 255).byte().permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(numpy.ascontiguousarray(pixels)).save(folder / f"picture{index}.png")
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
